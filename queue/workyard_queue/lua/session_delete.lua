-- Delete a session that is not running; its work stops and stays on record. Its places are removed afterwards.
-- Atomic: from one step to the next it is unknown, and nothing serves it.
-- KEYS[1]: environment. Arguments: `session_id`; `work_id`.
-- Answer: {'OK', workspace, '1' if its place in the environment is still to be removed} | {'RUNNING'} | {'DUE'}: its agent
-- has to act first | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local status = reach(session_id, work_id)
if not status then return {'MISSING'} end
if is_due(session_id) ~= '' then return {'DUE'} end
if status == 'running' or status == 'rescheduling' then return {'RUNNING'} end
release(work_id)
if status ~= 'terminated' then count_active(session_id, -1) end
local indexed = call('EXISTS', work(work_id)) == 1
if indexed then
  -- The index of items knows the session too.
  call('HSET', work(work_id), 'gone', '1')
  call('ZREM', SESSIONS, session_id)
end
call('UNLINK', session(session_id), EVENTS_ .. session_id)
call('ZREM', DUE, session_id)
announce('deleted', session_id, us(E.now))
touch()
return {'OK', call('HGET', ENV, 'ws'), indexed and '' or '1'}
