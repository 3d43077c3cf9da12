-- Read an item as the clock has it.
-- Atomic: a lapse that is due shows, whoever noticed it first.
-- KEYS[1]: environment. Arguments: `work_id`.
-- Answer: {'OK', fields} | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local fields = call('HGETALL', work(work_id))
if #fields == 0 then return {'MISSING'} end
return {'OK', fields}
