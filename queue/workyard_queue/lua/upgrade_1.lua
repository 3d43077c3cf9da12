-- Data format 1 → 2, for a part of an environment's items: count the entries into `stopped`, and those that wait. What the
-- items went through before is not on record, so a stopped one has entered once and never left.
-- Atomic: an item is read and counted in one step. A repeat changes nothing.
-- KEYS[1] environment. ARGV[1] wall us; [2] ''; [3] sequence to continue above; [4] how many items; [5] how many waited
-- in the parts before.
-- Answer: {'OK', sequence reached, how many wait in all parts so far} | {'OK', '', …}: all are done | {'GONE'}.
local refusal = begin()
if refusal then return {refusal} end
local part = call('ZRANGEBYSCORE', INDEX, '(' .. ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[4])
local waiting = tonumber(ARGV[5])
for i = 1, #part, 2 do
  local item = call('HMGET', work(part[i]), 'state', 'entry')
  if item[1] == 'stopped' then call('HSETNX', work(part[i]), 'ended', '1') end
  if item[1] == 'queued' and item[2] > us(E.delivered) .. '-0' then waiting = waiting + 1 end
end
if #part == 0 and E.kind == 'self_hosted' then call('HSETNX', ENV, 'waiting', us(waiting)) end
return {'OK', part[#part] or '', us(waiting)}
