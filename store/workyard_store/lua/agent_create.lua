-- Keep the definition of an agent.
-- Atomic: the agent and the mark that makes its API key a known one appear together.
-- KEYS[1] workspace. ARGV[1] wall us; [2] agent id; [3] definition as JSON; [4] '1' if the id follows from the seed.
-- Answer: the workspace's instant, us | {'SEED', seed, place}.
local ask = seed('agent', ARGV[4])
if ask then return ask end
local now = us(instant())
call('HSET', BASE .. 'agents', ARGV[2], now .. ' ' .. ARGV[3])
call('HSETNX', STATE, 'number', 0)
return now
