-- Confirm a new environment's place once its record exists: a reset in between may have removed the place, and a
-- change of the clock may have missed the record.
-- Atomic: the place and the profile are of one instant.
-- KEYS[1]: workspace. Arguments: `environment_id`; `number`: its sequence.
-- Answer: {what an environment copies (`profile`)}.
call('ZADD', ENVS, number, environment_id)
call('ZADD', LIVE, number, environment_id)
if tonumber(call('HGET', STATE, 'number') or '0') < tonumber(number) then
  call('HSET', STATE, 'number', number)
end
return profile()
