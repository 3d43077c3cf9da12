-- Give a session another script, if it has not changed since it was read.
-- Atomic: no turn begins between the check of the session and the change.
-- KEYS[1]: environment. Arguments: `session_id`; `work_id`; `version` that was read; `script` (JSON); its `source`; `state` of
-- the agent, JSON.
-- Answer: {'OK'} | {'STALE'}: read it again | {'BUSY'}: in mid-turn | {'TERMINATED'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local v = call('HMGET', session(session_id), 'version', 'status', 'busy')
if v[1] ~= version then return {'STALE'} end
if v[2] == 'terminated' then return {'TERMINATED'} end
if v[3] == '1' then return {'BUSY'} end
call('HSET', session(session_id), 'script', script, 'source', source, 'state', state)
changed(session_id)
return {'OK'}
