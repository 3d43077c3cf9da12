-- Data format 1 → 2, for a part of an environment's items: count the entries into `stopped`. What the items went
-- through before is not on record, so a stopped one has entered once and never left.
-- Atomic: an item is read and counted in one step. A repeat changes nothing.
-- KEYS[1] environment. ARGV[1] wall us; [2] ''; [3] sequence to continue above; [4] how many items.
-- Answer: {'OK', sequence reached} | {'OK', ''}: all are done | {'GONE'}.
local refusal = begin()
if refusal then return {refusal} end
local part = call('ZRANGEBYSCORE', INDEX, '(' .. ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[4])
for i = 1, #part, 2 do
  if call('HGET', work(part[i]), 'state') == 'stopped' then call('HSETNX', work(part[i]), 'ended', '1') end
end
return {'OK', part[#part] or ''}
