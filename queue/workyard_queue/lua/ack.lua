-- Acknowledge an item: queued → starting, out of the queue, startup lease.
-- Atomic: the item is in the queue or under lease, never in both or neither.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] work id; [4] the server's startup lease, us.
-- Answer: {'OK', fields} | {'STATE', state}: not queued | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local id = ARGV[3]
local v = call('HMGET', work(id), 'state', 'entry', 'seq')
if not v[1] then return {'MISSING'} end
if v[1] ~= 'queued' then
  note('ack_refused', id, E.now, v[1], '')
  return {'STATE', v[1]}
end
leave(id, v[2])
local lease = E.startup and E.startup * 1000000 or tonumber(ARGV[4])
call('ZADD', LEASES, us(E.now + lease), lease_member(v[3], id))
call('HSET', work(id), 'state', 'starting', 'acked', us(E.now))
call('HDEL', work(id), 'message')
touch()
note('acked', id, E.now, 'queued', 'starting', 'l', us(lease))
return {'OK', call('HGETALL', work(id))}
