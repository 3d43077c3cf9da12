-- Remove a memory.
-- Atomic: the content is still the one that was expected.
-- KEYS[1] workspace. ARGV[1] wall us; [2] store id; [3] memory id; [4] SHA-256 that its content must have, '' for any.
-- Answer: {'OK'} | {'STORE'} | {'MEMORY'} | {'CHANGED', SHA-256}.
if not call('HGET', STORES, STORE) then return {'STORE'} end
local m = memory(ARGV[3])
if not m then return {'MEMORY'} end
if ARGV[4] ~= '' and ARGV[4] ~= m.sha then return {'CHANGED', m.sha} end
remove(ARGV[3], m)
return {'OK'}
