-- Store a changed record, if nobody changed it since it was read.
-- Atomic: two updates that read the same version cannot both be stored, so neither loses the other's fields.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] the version that was read; [4] name; [5] description;
-- [6] config JSON; [7] metadata JSON; [8] scope.
-- Answer: {'OK', record} | {'STALE'}: read it again | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
if call('HGET', ENV, 'version') ~= ARGV[3] then return {'STALE'} end
call('HSET', ENV, 'name', ARGV[4], 'description', ARGV[5], 'config', ARGV[6], 'metadata', ARGV[7], 'scope', ARGV[8],
  'updated', us(E.now), 'version', us(tonumber(ARGV[3]) + 1))
touch()
return {'OK', call('HGETALL', ENV)}
