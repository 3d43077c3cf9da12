-- Append a client's events to a session; its agent must act on them.
-- Atomic: the events and their effect on the session's work are one step, so no message is left unserved.
-- KEYS[1]: environment. Arguments: `session_id`; `work_id`; `asks`: whether an event asks for work; `has_results`: whether
-- one is the result of a tool that a worker ran; `events`: each as JSON.
-- Answer: {'OK', now us} | {'ARCHIVED'} | {'TERMINATED'} | {'CLOUD'}: no worker runs tools there | {'SEED', seed, place} | {'MISSING'} | {'AGAIN'}
-- | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local status = reach(session_id, work_id)
if not status then return {'MISSING'} end
if call('HGET', session(session_id), 'archived') ~= '' then return {'ARCHIVED'} end
if status == 'terminated' then return {'TERMINATED'} end
if has_results and E.kind == 'cloud' then return {'CLOUD'} end
local ask = seed('event')
if ask then return ask end
append(session_id, events)
call('ZADD', DUE, us(E.now), session_id)
if asks and E.kind == 'self_hosted' then message_to(work_id) end
changed(session_id)
return {'OK', us(E.now)}
