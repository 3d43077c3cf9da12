-- Keep the record of a memory store: a new one, or a change of what the caller has read.
-- Atomic: of two changes of the same record one is told that it came late.
-- KEYS[1] workspace. ARGV[1] wall us; [2] store id; [3] the record that the caller has read, '' for a new store;
-- [4] what its record says, as JSON; [5] '1' to archive it; [6] most stores; [7] '1' if the id
-- follows from the seed.
-- Answer: {'OK', record} | {'FULL'} | {'STORE'} | {'CHANGED'} | {'SEED', seed, place}.
local stored = call('HGET', STORES, STORE)
local now = us(instant())
local number, created, archived
if ARGV[3] == '' then
  if #call('HKEYS', STORES) >= tonumber(ARGV[6]) then return {'FULL'} end
  local ask = seed('memory_store', ARGV[7])
  if ask then return ask end
  number, created, archived = us(call('HINCRBY', STATE, 'number', 1)), now, '-'
else
  if not stored then return {'STORE'} end
  if stored ~= ARGV[3] then return {'CHANGED'} end
  number, created, archived = string.match(stored, '^(%S+) (%S+) %S+ (%S+)')
end
if ARGV[5] == '1' then archived = now end
local record = table.concat({number, created, now, archived, ARGV[4]}, ' ')
call('HSET', STORES, STORE, record)
return {'OK', record}
