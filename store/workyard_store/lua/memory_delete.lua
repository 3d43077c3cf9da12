-- Remove a memory.
-- Atomic: the content is still the expected one.
-- KEYS[1]: workspace. Arguments: `memory_id`; `expected`: SHA-256 that its content must have, '' for any.
-- Answer: {'OK'} | {'STORE'} | {'MEMORY'} | {'CHANGED', SHA-256}.
if not call('HGET', STORES, STORE) then return {'STORE'} end
local m = memory(memory_id)
if not m then return {'MEMORY'} end
if expected ~= '' and expected ~= m.sha then return {'CHANGED', m.sha} end
remove(memory_id, m)
return {'OK'}
