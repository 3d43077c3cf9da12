-- Write a part of an environment that is being restored, in the order that is given: what was read of another one.
-- Atomic: an environment that exists is never written over, of two parts in a row none is mixed with the other, and nothing
-- is written behind a purge.
-- KEYS[1] environment, which has no record until the last part. ARGV[1] which restore writes; [2] '1' for the first part;
-- then commands on keys of this environment: how many words, then the words.
-- Answer: {'OK'} | {'LIVE'}: it exists, or another restore writes it; nothing was written | {'PURGED'}: what was written
-- before is gone; nothing was written.
if call('EXISTS', ENV) == 1 then return {'LIVE'} end
local writer = call('GET', RESTORE)
if writer and writer ~= ARGV[1] then return {'LIVE'} end
if ARGV[2] == '1' then
  call('SET', RESTORE, ARGV[1])
elseif not writer then
  return {'PURGED'}
end
local i = 3
while i <= #ARGV do
  local words = tonumber(ARGV[i])
  call(unpack(ARGV, i + 1, i + words))
  i = i + words + 1
end
return {'OK'}
