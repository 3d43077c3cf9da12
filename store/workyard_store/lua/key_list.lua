-- Read an environment's keys.
-- KEYS[1]: environment. Arguments: none.
-- Answer: {'OK', {record, record, …}} (each JSON) | {'GONE'}.
local refusal = begin()
if refusal then return {refusal} end
return {'OK', call('HVALS', KEYS_)}
