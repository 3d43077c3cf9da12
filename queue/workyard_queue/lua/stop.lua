-- Stop an item, gracefully or by force.
-- Atomic: the item leaves the queue or its lease in the step that stops it.
-- KEYS[1]: environment. Arguments: `work_id`; `force`.
-- Answer: {'OK', fields after the step} | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local asked = force and '1' or '0'
local v = call('HMGET', work(work_id), 'state', 'again')
local state = v[1]
if not state then return {'MISSING'} end
-- A graceful stop of an item that was queued before is the late stop of an earlier holder.
local ends = state ~= 'stopped' and (force or (state == 'queued' and not v[2]))
if ends then return {'OK', stop_now(work_id, asked)} end
if state == 'starting' or state == 'active' then
  call('HSET', work(work_id), 'state', 'stopping', 'stop', us(E.now))
  touch()
  note('stop_asked', work_id, E.now, state, 'stopping', 'force', '0')
else
  note('stop_asked', work_id, E.now, state, state, 'force', asked)
end
return {'OK', call('HGETALL', work(work_id))}
