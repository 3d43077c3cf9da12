-- Create a session with its first events; in a self-hosted environment, enqueue its work.
-- Atomic: no session is without its item, and no item without its session.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] session id; [4] work id; [5] creation sequence in the
-- workspace; then JSON: [6] agent; [7] title; [8] metadata; [9] resources; [10] vault ids; [11] script
-- and [12] its source, or ''; [13] most items in the environment; then each event.
-- Answer: {'OK'} | {'ARCHIVED'} | {'FULL'} | {'SEED', seed, place} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if E.archived then return {'ARCHIVED'} end
if E.kind == 'self_hosted' and is_full(1, ARGV[13]) then return {'FULL'} end
local ask = ARGV[14] and seed('event')
if ask then return ask end
local id, work_id = ARGV[3], ARGV[4]
store(id, work_id, us(E.now), ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10])
count_active(id, 1)
if E.kind == 'self_hosted' then
  create(work_id, id, {})
  wake()
end
if ARGV[11] ~= '' then call('HSET', session(id), 'script', ARGV[11], 'source', ARGV[12]) end
if ARGV[14] then
  append(id, 14)
  call('ZADD', DUE, us(E.now), id)
  if E.kind == 'self_hosted' then message_to(work_id) end
else
  begin_idle(id, us(E.now))
end
touch()
return {'OK'}
