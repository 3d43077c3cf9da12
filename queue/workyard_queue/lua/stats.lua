-- Read the queue's figures. The cost does not depend on the queue's length.
-- Atomic: depth + pending is the number of queued items of one instant.
-- KEYS[1]: environment. Arguments: none.
-- Answer: {'OK', depth, pending, date of the oldest live entry us or '', workers polling} | {'CLOUD'} | {'AGAIN'}
-- | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if E.kind == 'cloud' then return {'CLOUD'} end
if skip() then return {'AGAIN'} end
local depth, pending, first = counts()
return {'OK', depth, pending, oldest_date(depth, pending, first) or '', workers_polling()}
