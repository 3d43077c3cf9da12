-- Store a changed record, unless it has changed since it was read.
-- Atomic: two updates that read the same version cannot both be stored, so neither loses the other's fields.
-- KEYS[1]: environment. Arguments: `version` that was read; `name`; `description`; `config` and `metadata`, JSON; `scope`.
-- Answer: {'OK', record} | {'STALE'}: read it again | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
if call('HGET', ENV, 'version') ~= version then return {'STALE'} end
call('HSET', ENV, 'name', name, 'description', description, 'config', config, 'metadata', metadata, 'scope', scope,
  'updated', us(E.now), 'version', us(tonumber(version) + 1))
touch()
return {'OK', call('HGETALL', ENV)}
