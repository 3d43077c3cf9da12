-- Keep the definition of an agent.
-- Atomic: the agent and the mark that makes its API key a known one appear together.
-- KEYS[1] workspace. ARGV[1] wall us; [2] agent id; [3] definition as JSON.
-- Answer: the workspace's instant, us.
local now = us(instant())
call('HSET', BASE .. 'agents', ARGV[2], now .. ' ' .. ARGV[3])
call('HSETNX', STATE, 'number', 0)
return now
