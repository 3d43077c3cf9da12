-- Read a part of a session's events.
-- Atomic: the part is of one instant.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] session id; [4] work id; [5] asc|desc; [6] the entry (us)
-- to continue behind, or ''; [7] how many.
-- Answer: {'OK', '1' if its agent has to act first, else '', {{entry id, {e, …, t, …}}, …}}
-- | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local id = ARGV[3]
if not reach(id, ARGV[4]) then return {'MISSING'} end
local from = ARGV[6] ~= '' and '(' .. ARGV[6] .. '-0'
local found
if ARGV[5] == 'asc' then
  found = call('XRANGE', EVENTS_ .. id, from or '-', '+', 'COUNT', ARGV[7])
else
  found = call('XREVRANGE', EVENTS_ .. id, from or '+', '-', 'COUNT', ARGV[7])
end
return {'OK', is_due(id), found}
