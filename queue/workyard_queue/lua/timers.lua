-- Read the soonest timers of an environment. Changes nothing.
-- Atomic: they are of one instant.
-- KEYS[1]: environment. Arguments: `reclaim_us`: the server's default reclaim age, us; `most`: how many of each kind.
-- Answer: {'OK', {{kind, instant us, work id or '', session id or '', worker id or ''}, …}} | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
return {'OK', timers(E.now, nil, reclaim_age(reclaim_us), most)}
