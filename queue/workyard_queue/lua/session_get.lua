-- Read a session.
-- Atomic: the record and the instant it is read at belong together.
-- KEYS[1]: environment. Arguments: `session_id`; `work_id`.
-- Answer: {'OK', '1' if its agent has to act first, else '', now us, workspace, fields, instant us since
-- which a worker holds its work ('0' in a cloud environment, where it needs none) or ''} | {'MISSING'} | {'AGAIN'} | {'GONE'}
-- | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if not reach(session_id, work_id) then return {'MISSING'} end
return {'OK', is_due(session_id), us(E.now), call('HGET', ENV, 'ws'), call('HGETALL', session(session_id)),
  E.kind == 'cloud' and '0' or held_since(work_id)}
