-- Give a new environment its place in its workspace, before its record exists: lists skip a place without a record.
-- Atomic: two environments cannot share a sequence number, nor both take the last free place.
-- KEYS[1]: workspace. Arguments: `environment_id`; `seeded`: whether that follows from the seed; `most` environments.
-- Answer: {'OK', sequence, what an environment copies (`profile`)} | {'FULL'} | {'SEED', seed, place}.
if call('ZCARD', ENVS) >= most then return {'FULL'} end
local ask = seed('environment', seeded)
if ask then return ask end
local number = call('HINCRBY', STATE, 'number', 1)
call('ZADD', ENVS, number, environment_id)
call('ZADD', LIVE, number, environment_id)
return {'OK', number, profile()}
