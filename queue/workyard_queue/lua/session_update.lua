-- Store a changed record, if the session has not changed since it was read.
-- Atomic: two updates that read the same version cannot both be stored, so neither loses the other's fields.
-- KEYS[1]: environment. Arguments: `session_id`; `work_id`; `version` that was read; as JSON `agent`, `title`, `metadata`, and
-- `events`: the one that reports the change, if something did change.
-- Answer: {'OK'} | {'STALE'}: read it again | {'SEED', seed, place} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local v = call('HMGET', session(session_id), 'version', 'entry', 'seen')
if v[1] ~= version then return {'STALE'} end
local ask = events[1] and seed('event')
if ask then return ask end
append(session_id, events)
-- An agent that has read everything need not read this.
if v[2] == v[3] then call('HSET', session(session_id), 'seen', call('HGET', session(session_id), 'entry')) end
call('HSET', session(session_id), 'agent', agent, 'title', title, 'metadata', metadata, 'updated', us(E.now))
changed(session_id)
return {'OK'}
