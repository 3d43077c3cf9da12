-- Remove a memory store with all its memories.
-- Atomic: no memory of a deleted store is left.
-- KEYS[1]: workspace. Arguments: none.
-- Answer: {'OK'} | {'STORE'}.
if not call('HGET', STORES, STORE) then return {'STORE'} end
for _, member in ipairs(call('ZRANGE', PATHS, '[' .. STORE .. ' ', '(' .. STORE .. '!', 'BYLEX')) do
  local id = string.match(member, '\n(.*)$')
  call('HDEL', MEMORIES, id)
  call('HDEL', TEXTS, id)
  call('ZREM', PATHS, member)
end
call('HDEL', SIZES, STORE .. ' count', STORE .. ' bytes')
call('HDEL', STORES, STORE)
return {'OK'}
