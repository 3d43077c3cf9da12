-- Acknowledge an item: queued → starting, out of the queue, startup lease.
-- Atomic: the item is in the queue or under lease, never in both or neither.
-- KEYS[1]: environment. Arguments: `work_id`; `startup_us`: the server's startup lease, us.
-- Answer: {'OK', fields} | {'STATE', state}: not queued | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local v = call('HMGET', work(work_id), 'state', 'entry', 'seq')
if not v[1] then return {'MISSING'} end
if v[1] ~= 'queued' then
  note('ack_refused', work_id, E.now, v[1], '')
  return {'STATE', v[1]}
end
leave(work_id, v[2])
local lease = E.startup and E.startup * 1000000 or startup_us
call('ZADD', LEASES, us(E.now + lease), lease_member(v[3], work_id))
call('HSET', work(work_id), 'state', 'starting', 'acked', us(E.now))
call('HDEL', work(work_id), 'message')
touch()
note('acked', work_id, E.now, 'queued', 'starting', 'l', us(lease))
return {'OK', call('HGETALL', work(work_id))}
