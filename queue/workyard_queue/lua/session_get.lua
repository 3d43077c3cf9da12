-- Read a session.
-- Atomic: the record and the instant it is read at belong together.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] session id; [4] work id.
-- Answer: {'OK', '1' if its agent has to act first, else '', now us, workspace, fields, instant us since
-- which a worker holds its work ('0' in a cloud environment, where it needs none) or ''} | {'MISSING'} | {'AGAIN'} | {'GONE'}
-- | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local id = ARGV[3]
if not reach(id, ARGV[4]) then return {'MISSING'} end
return {'OK', is_due(id), us(E.now), call('HGET', ENV, 'ws'), call('HGETALL', session(id)),
  E.kind == 'cloud' and '0' or held_since(ARGV[4])}
