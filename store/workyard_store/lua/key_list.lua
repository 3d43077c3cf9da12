-- Read an environment's keys.
-- KEYS[1] environment. ARGV[1] wall us; [2] ''.
-- Answer: {'OK', {record, record, …}} (each JSON) | {'GONE'}.
local refusal = begin()
if refusal then return {refusal} end
return {'OK', call('HVALS', KEYS_)}
