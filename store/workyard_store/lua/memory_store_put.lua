-- Store the record of a memory store: a new one, or a change of the record that the caller has read.
-- Atomic: of two changes of the same record, the second gets CHANGED.
-- KEYS[1]: workspace. Arguments: `expected`: the record that the caller has read, '' for a new store; `content` of the record, as
-- JSON; `archive`: whether to archive it; `most` stores; `seeded`: whether the id follows from the seed.
-- Answer: {'OK', record} | {'FULL'} | {'STORE'} | {'CHANGED'} | {'SEED', seed, place}.
local stored = call('HGET', STORES, STORE)
local now = us(instant())
local number, created, archived
if expected == '' then
  if #call('HKEYS', STORES) >= most then return {'FULL'} end
  local ask = seed('memory_store', seeded)
  if ask then return ask end
  number, created, archived = us(call('HINCRBY', STATE, 'number', 1)), now, '-'
else
  if not stored then return {'STORE'} end
  if stored ~= expected then return {'CHANGED'} end
  number, created, archived = string.match(stored, '^(%S+) (%S+) %S+ (%S+)')
end
if archive then archived = now end
local record = table.concat({number, created, now, archived, content}, ' ')
call('HSET', STORES, STORE, record)
return {'OK', record}
