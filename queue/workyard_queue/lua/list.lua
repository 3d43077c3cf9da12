-- Read a page of the environment's items, newest first, stopped ones too.
-- Atomic: the page is of one instant.
-- KEYS[1]: environment. Arguments: `below`: sequence to continue below, or ''; `count`: how many.
-- Answer: {'OK', id, fields, id, fields, …} | {'CLOUD'} | {'ARCHIVED'}: an archived cloud environment | {'AGAIN'} | {'GONE'}
-- | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if E.kind == 'cloud' then return {E.archived and 'ARCHIVED' or 'CLOUD'} end
local from = below == '' and '+inf' or '(' .. below
local answer = {'OK'}
for _, id in ipairs(call('ZREVRANGEBYSCORE', INDEX, from, '-inf', 'LIMIT', 0, count)) do
  answer[#answer + 1] = id
  answer[#answer + 1] = call('HGETALL', work(id))
end
return answer
