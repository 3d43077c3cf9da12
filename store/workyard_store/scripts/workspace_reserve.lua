-- Give a new environment its place in its workspace, before its record exists: lists skip a place without a record.
-- Atomic: no two environments share a sequence number.
-- KEYS[1] workspace. ARGV[1] wall us; [2] environment id; [3] '1' if that follows from the seed.
-- Answer: {sequence, what an environment copies (`profile`)} | {'SEED', seed, place}.
local ask = seed('environment', ARGV[3])
if ask then return ask end
local number = call('HINCRBY', STATE, 'number', 1)
call('ZADD', ENVS, number, ARGV[2])
call('ZADD', LIVE, number, ARGV[2])
local answer = profile()
table.insert(answer, 1, us(number))
return answer
