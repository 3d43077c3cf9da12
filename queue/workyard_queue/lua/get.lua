-- Read an item as the clock has it.
-- Atomic: a lapse that is due shows, whoever noticed it first.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] work id.
-- Answer: {'OK', fields} | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local fields = call('HGETALL', work(ARGV[3]))
if #fields == 0 then return {'MISSING'} end
return {'OK', fields}
