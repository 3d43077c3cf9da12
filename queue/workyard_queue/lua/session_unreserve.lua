-- Give up the place of a session that could not be created.
-- Atomic: a session that exists keeps its place.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] session id. Answer: {'OK'} | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
if call('EXISTS', session(ARGV[3])) == 0 then call('ZREM', SESSIONS, ARGV[3]) end
return {'OK'}
