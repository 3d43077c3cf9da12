-- Archive a session that does not run: it is terminated, and its work stops. A repeat changes nothing.
-- Atomic: no message comes between the end of the session and that of its work.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] session id; [4] work id; [5] the event that tells of it.
-- Answer: {'OK'} | {'RUNNING', status} | {'DUE'}: its agent has to act first | {'SEED', seed, place} | {'MISSING'}
-- | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local id, work_id = ARGV[3], ARGV[4]
local status = reach(id, work_id)
if not status then return {'MISSING'} end
if call('HGET', session(id), 'archived') ~= '' then return {'OK'} end
if is_due(id) ~= '' then return {'DUE'} end
if status == 'running' or status == 'rescheduling' then return {'RUNNING', status} end
if status ~= 'terminated' then
  local ask = seed('event')
  if ask then return ask end
  append(id, 5)
end
become(id, 'terminated')
call('HSET', session(id), 'archived', us(E.now), 'updated', us(E.now), 'seen', call('HGET', session(id), 'entry'))
call('ZREM', DUE, id)
release(work_id)
changed(id)
return {'OK'}
