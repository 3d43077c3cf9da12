-- Delete a session that does not run; its work stops and stays on record. Its places are removed afterwards.
-- Atomic: from one step to the next it is unknown, and nothing serves it.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] session id; [4] work id.
-- Answer: {'OK', workspace, '1' if its place in the environment is still to be removed} | {'RUNNING'} | {'DUE'}: its agent
-- has to act first | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local id, work_id = ARGV[3], ARGV[4]
local status = reach(id, work_id)
if not status then return {'MISSING'} end
if is_due(id) ~= '' then return {'DUE'} end
if status == 'running' or status == 'rescheduling' then return {'RUNNING'} end
release(work_id)
if status ~= 'terminated' then count_active(id, -1) end
local indexed = call('EXISTS', work(work_id)) == 1
if indexed then
  -- The index of items knows the session too.
  call('HSET', work(work_id), 'gone', '1')
  call('ZREM', SESSIONS, id)
end
call('UNLINK', session(id), EVENTS_ .. id)
call('ZREM', DUE, id)
announce('deleted', id, us(E.now))
touch()
return {'OK', call('HGET', ENV, 'ws'), indexed and '' or '1'}
