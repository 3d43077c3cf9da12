-- Archive a session that is not running: it is terminated, and its work stops. A repeat changes nothing.
-- Atomic: no message comes between the end of the session and that of its work.
-- KEYS[1]: environment. Arguments: `session_id`; `work_id`; `events`: the one that reports it, JSON.
-- Answer: {'OK'} | {'RUNNING', status} | {'DUE'}: its agent has to act first | {'SEED', seed, place} | {'MISSING'}
-- | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local status = reach(session_id, work_id)
if not status then return {'MISSING'} end
if call('HGET', session(session_id), 'archived') ~= '' then return {'OK'} end
if is_due(session_id) ~= '' then return {'DUE'} end
if status == 'running' or status == 'rescheduling' then return {'RUNNING', status} end
if status ~= 'terminated' then
  local ask = seed('event')
  if ask then return ask end
  append(session_id, events)
end
become(session_id, 'terminated')
call('HSET', session(session_id), 'archived', us(E.now), 'updated', us(E.now), 'seen', call('HGET', session(session_id), 'entry'))
call('ZREM', DUE, session_id)
release(work_id)
changed(session_id)
return {'OK'}
