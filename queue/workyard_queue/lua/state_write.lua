-- Write a part of an environment that is being restored, in the given order, from the data of another one.
-- Atomic: an existing environment is never overwritten, two consecutive parts do not mix, and nothing is written after a
-- purge.
-- KEYS[1]: environment, which has no record until the last part. Arguments: `restore`: which one writes; `first`: whether this
-- is the first part; `words` of commands on keys of this environment: of each how many they are, then the words.
-- Answer: {'OK'} | {'LIVE'}: it exists, or another restore writes it; nothing was written | {'PURGED'}: what was written
-- before is gone; nothing was written.
if call('EXISTS', ENV) == 1 then return {'LIVE'} end
local writer = call('GET', RESTORE)
if writer and writer ~= restore then return {'LIVE'} end
if first then
  call('SET', RESTORE, restore)
elseif not writer then
  return {'PURGED'}
end
local i = 1
while i <= #words do
  local count = tonumber(words[i])
  call(unpack(words, i + 1, i + count))
  i = i + count + 1
end
return {'OK'}
