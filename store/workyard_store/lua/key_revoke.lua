-- Mark an environment key as revoked; a repeat changes nothing.
-- Atomic: only a key that is on record can be revoked, and the first instant is kept.
-- KEYS[1]: environment. Arguments: `key_id`.
-- Answer: {'OK'} | {'MISSING'} | {'GONE'}.
local refusal = begin()
if refusal then return {refusal} end
local records = call('HGETALL', KEYS_)
for i = 1, #records, 2 do
  if string.find(records[i + 1], '{"id":"' .. key_id .. '"', 1, true) == 1 then
    local head = string.match(records[i + 1], '^(.*"revoked_at":)null}$')
    if head then
      call('HSET', KEYS_, records[i], head .. us(E.now) .. '}')
      touch()
      wake(true)
    end
    return {'OK'}
  end
end
return {'MISSING'}
