-- Store the definition of an agent.
-- Atomic: the agent and the mark that makes its API key a known one appear together.
-- KEYS[1]: workspace. Arguments: `agent_id`; `definition` as JSON; `seeded`: whether the id follows from the seed.
-- Answer: {'OK', the workspace's instant, us} | {'SEED', seed, place}.
local ask = seed('agent', seeded)
if ask then return ask end
local now = us(instant())
call('HSET', BASE .. 'agents', agent_id, now .. ' ' .. definition)
call('HSETNX', STATE, 'number', 0)
return {'OK', now}
