-- Tell what waits for its time: the soonest timers of an environment. Changes nothing.
-- Atomic: they are of one instant.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] the server's default reclaim age, us; [4] how many of each
-- kind at most.
-- Answer: {'OK', {{kind, instant us, work id or '', session id or '', worker id or ''}, …}} | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
return {'OK', timers(E.now, nil, reclaim_age(ARGV[3]), ARGV[4])}
