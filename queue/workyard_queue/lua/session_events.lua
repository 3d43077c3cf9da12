-- Read a part of a session's events.
-- Atomic: the part is of one instant.
-- KEYS[1]: environment. Arguments: `session_id`; `work_id`; `order`: asc|desc; `behind`: the entry (us) after which to
-- continue, or ''; `count`: how many.
-- Answer: {'OK', '1' if its agent has to act first, else '', {{entry id, {e, …, t, …}}, …}}
-- | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if not reach(session_id, work_id) then return {'MISSING'} end
local from = behind ~= '' and '(' .. behind .. '-0'
local found
if order == 'asc' then
  found = call('XRANGE', EVENTS_ .. session_id, from or '-', '+', 'COUNT', count)
else
  found = call('XREVRANGE', EVENTS_ .. session_id, from or '+', '-', 'COUNT', count)
end
return {'OK', is_due(session_id), found}
