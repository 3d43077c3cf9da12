-- Give a new session its place in the environment, before its place in the workspace and its record, so that the
-- remains of a crash are found and removed with the environment.
-- Atomic: only a live environment of the caller's takes a session.
-- KEYS[1]: environment. Arguments: `session_id`; `most`: sessions, and as many items.
-- Answer: {'OK', workspace} | {'ARCHIVED'} | {'FULL'} | {'SEED', seed, place} | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
if E.archived then return {'ARCHIVED'} end
if call('ZCARD', SESSIONS) >= most or E.kind == 'self_hosted' and is_full(1, most) then
  return {'FULL'}
end
local ask = seed('session')
if ask then return ask end
call('ZADD', SESSIONS, call('HINCRBY', ENV, 'sessions', 1), session_id)
return {'OK', call('HGET', ENV, 'ws')}
