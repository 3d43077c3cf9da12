-- Read an item in its state at the clock's instant.
-- Atomic: a due lapse is visible, even if this is the first call to notice it.
-- KEYS[1]: environment. Arguments: `work_id`.
-- Answer: {'OK', fields} | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local fields = call('HGETALL', work(work_id))
if #fields == 0 then return {'MISSING'} end
return {'OK', fields}
