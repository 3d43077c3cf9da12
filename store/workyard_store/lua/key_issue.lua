-- Put an environment key on record.
-- Atomic: a deleted environment gets no key.
-- KEYS[1] environment. ARGV[1] wall us; [2] ''; [3] SHA-256 of the key; [4] key id; [5] name as JSON.
-- Answer: {'OK', created us} | {'SEED', seed, place} | {'GONE'}.
local refusal = begin()
if refusal then return {refusal} end
local ask = seed('key')
if ask then return ask end
touch()
call('HSET', KEYS_, ARGV[3], string.format('{"id":"%s","name":%s,"created_at":%s,"revoked_at":null}', ARGV[4], ARGV[5],
  us(E.now)))
return {'OK', us(E.now)}
