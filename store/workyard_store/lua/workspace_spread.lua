-- Note that a change of clock or settings has reached every environment.
-- Atomic: a newer change, or a reset, that came in between is not covered up.
-- KEYS[1]: workspace. Arguments: `generation` that has spread; `clock`: and the clock with it.
-- Answer: {'OK'}.
local v = call('HMGET', STATE, 'generation', 'ticked', 'spread')
-- Settings alone do not cover up a clock that is still on its way.
local whole = clock or tonumber(v[2] or 0) <= tonumber(v[3] or 0)
if v[1] == generation and whole then
  call('HSET', STATE, 'spread', generation)
end
return {'OK'}
