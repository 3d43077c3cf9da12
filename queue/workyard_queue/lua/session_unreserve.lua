-- Give up the place of a session that could not be created.
-- Atomic: a session that exists keeps its place.
-- KEYS[1]: environment. Arguments: `session_id`.
-- Answer: {'OK'} | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
if call('EXISTS', session(session_id)) == 0 then call('ZREM', SESSIONS, session_id) end
return {'OK'}
