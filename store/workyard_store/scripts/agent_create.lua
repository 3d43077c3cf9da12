-- Keep the definition of an agent.
-- Atomic: the agent and the mark that makes its API key a known one appear together.
-- KEYS[1] workspace. ARGV[1] wall us; [2] agent id; [3] definition as JSON.
-- Answer: the workspace's instant, us.
local v = call('HMGET', STATE, 'shift', 'frozen', 'last')
local frozen = tonumber(v[2] or '')
local now = us(math.max(frozen or tonumber(ARGV[1]) + tonumber(v[1] or '0'), tonumber(v[3] or '0')))
call('HSET', BASE .. 'agents', ARGV[2], now .. ' ' .. ARGV[3])
call('HSETNX', STATE, 'number', 0)
return now
