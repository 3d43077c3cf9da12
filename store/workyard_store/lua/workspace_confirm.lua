-- Confirm a new environment's place once its record exists: a reset in between may have taken the place away, and a
-- change of the clock may have missed the record.
-- Atomic: the place and the profile are of one instant.
-- KEYS[1] workspace. ARGV[1] wall us; [2] environment id; [3] sequence.
-- Answer: {what an environment copies (`profile`)}.
call('ZADD', ENVS, ARGV[3], ARGV[2])
call('ZADD', LIVE, ARGV[3], ARGV[2])
if tonumber(call('HGET', STATE, 'number') or '0') < tonumber(ARGV[3]) then
  call('HSET', STATE, 'number', ARGV[3])
end
return profile()
