-- Archive an environment; a repeat changes nothing.
-- Atomic: the two stamps and the version belong together.
-- KEYS[1]: environment. Arguments: none.
-- Answer: {'OK', record} | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
if not E.archived then
  call('HSET', ENV, 'archived', us(E.now), 'updated', us(E.now))
  call('HINCRBY', ENV, 'version', 1)
  touch()
end
return {'OK', call('HGETALL', ENV)}
