-- Put an environment key on record.
-- Atomic: a deleted environment gets no key.
-- KEYS[1]: environment. Arguments: `sha`: SHA-256 of the key; `key_id`; `name` as JSON.
-- Answer: {'OK', created us} | {'SEED', seed, place} | {'GONE'}.
local refusal = begin()
if refusal then return {refusal} end
local ask = seed('key')
if ask then return ask end
touch()
call('HSET', KEYS_, sha, string.format('{"id":"%s","name":%s,"created_at":%s,"revoked_at":null}', key_id, name,
  us(E.now)))
return {'OK', us(E.now)}
