-- Give a new environment its place in its workspace, before its record exists: lists skip a place without a record.
-- Atomic: no two environments share a sequence number, nor are both the last that is allowed.
-- KEYS[1] workspace. ARGV[1] wall us; [2] environment id; [3] '1' if that follows from the seed; [4] most
-- environments. Answer: {sequence, what an environment copies (`profile`)} | {'FULL'} | {'SEED', seed, place}.
if call('ZCARD', ENVS) >= tonumber(ARGV[4]) then return {'FULL'} end
local ask = seed('environment', ARGV[3])
if ask then return ask end
local number = call('HINCRBY', STATE, 'number', 1)
call('ZADD', ENVS, number, ARGV[2])
call('ZADD', LIVE, number, ARGV[2])
local answer = profile()
table.insert(answer, 1, us(number))
return answer
