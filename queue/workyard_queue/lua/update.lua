-- Patch an item's metadata.
-- Atomic: the cap on the number of keys applies to the result.
-- KEYS[1]: environment. Arguments: `work_id`; `most_keys`; `refused`: whether the patch is already known to be refused: only the
-- number of keys is wanted; `patch`: rows of `key`, `sets` (else it is deleted) and `value`.
-- Answer: {'OK', fields} | {'REFUSED', number of keys the result would have} | {'MISSING'} | {'AGAIN'} | {'GONE'}
-- | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local names = call('HKEYS', work(work_id))
if #names == 0 then return {'MISSING'} end
local has, count = {}, 0
for _, name in ipairs(names) do
  if string.sub(name, 1, 2) == 'm:' then
    has[name] = true
    count = count + 1
  end
end
for _, change in ipairs(patch) do
  local name = 'm:' .. change.key
  if change.sets ~= (has[name] or false) then
    has[name] = change.sets
    count = count + (change.sets and 1 or -1)
  end
end
if refused or count > most_keys then return {'REFUSED', count} end
for _, change in ipairs(patch) do
  if change.sets then
    call('HSET', work(work_id), 'm:' .. change.key, change.value)
  else
    call('HDEL', work(work_id), 'm:' .. change.key)
  end
end
touch()
note('metadata', work_id, E.now, '', '', 'keys', us(#patch))
return {'OK', call('HGETALL', work(work_id))}
