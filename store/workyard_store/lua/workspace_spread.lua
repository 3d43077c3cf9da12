-- Record that a change of clock or settings has reached every environment.
-- Atomic: a newer change, or a reset, that came in between still counts as pending.
-- KEYS[1]: workspace. Arguments: `generation` that has spread; `clock`: and the clock with it.
-- Answer: {'OK'}.
local v = call('HMGET', STATE, 'generation', 'ticked', 'spread')
-- A change of settings alone leaves a pending change of the clock pending.
local whole = clock or tonumber(v[2] or 0) <= tonumber(v[3] or 0)
if v[1] == generation and whole then
  call('HSET', STATE, 'spread', generation)
end
return {'OK'}
