-- Read the input of an agent's next turn, if one is due.
-- Atomic: the state, the events and the version are of one instant.
-- KEYS[1]: environment. Arguments: `session_id`; `work_id`; `most_events`.
-- Answer: {'OK', version, now us, workspace, '1' in a cloud environment, instant us since which a worker holds the work or '',
-- script (JSON) or '', agent's state (JSON), metadata (JSON), last entry read (us) or '0', {{entry id, {e, …}}, …}}
-- | {'NONE'}: nothing to do | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if is_due(session_id) == '' then return {'NONE'} end
local v = call('HMGET', session(session_id), 'version', 'script', 'state', 'metadata', 'seen')
local unseen = call('XRANGE', EVENTS_ .. session_id, '(' .. v[5] .. '-0', '+', 'COUNT', most_events)
local cloud = E.kind == 'cloud' and '1' or ''
return {'OK', v[1], us(E.now), call('HGET', ENV, 'ws'), cloud, held_since(work_id), v[2] or '', v[3], v[4], v[5], unseen}
