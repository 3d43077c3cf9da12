-- Write a part of an environment that is being restored, in the order that is given: what was read of another one.
-- Atomic: an environment that exists is never written over, and of two parts in a row none is mixed with the other.
-- KEYS[1] environment, which has no record until the last part. ARGV[1] unused; [2] ''; then commands on keys of this
-- environment: how many words, then the words.
-- Answer: {'OK'} | {'LIVE'}: it exists; nothing was written.
if call('EXISTS', ENV) == 1 then return {'LIVE'} end
local i = 3
while i <= #ARGV do
  local words = tonumber(ARGV[i])
  call(unpack(ARGV, i + 1, i + words))
  i = i + words + 1
end
return {'OK'}
