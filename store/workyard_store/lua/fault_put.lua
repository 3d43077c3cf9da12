-- Add fault rules to a workspace, behind those it has or in their place.
-- Atomic: all of them or none; whoever asks sees the old rules or the new.
-- KEYS[1] workspace. ARGV[1] wall us; [2] version of the rules from now on; [3] '1' to remove the rules there are;
-- [4] most rules; then for each rule: its text, and for how long it lives in us of the workspace's time or ''.
-- Answer: {'OK', number of the first, what an environment copies (`profile`)} | {'FULL'}.
local RULES, COUNTS = BASE .. 'faults', BASE .. 'fault_counts'
local there = ARGV[3] == '1' and 0 or math.max(#call('HKEYS', RULES) - 1, 0)
if there + (#ARGV - 4) / 2 > tonumber(ARGV[4]) then return {'FULL'} end
if ARGV[3] == '1' then call('DEL', RULES, COUNTS) end
local now = instant()
local last = tonumber(call('HGET', COUNTS, 'last') or '0')
for i = 5, #ARGV, 2 do
  local number = us(last + (i - 3) / 2)
  local ends = ARGV[i + 1] == '' and '' or us(now + tonumber(ARGV[i + 1]))
  call('HSET', RULES, number, ends .. '\n' .. ARGV[i])
  call('HSET', COUNTS, 'last', number)
end
call('HSET', RULES, 'version', ARGV[2])
call('HSET', STATE, 'faults', '1')
next_generation()
local answer = profile()
table.insert(answer, 1, us(last + 1))
table.insert(answer, 1, 'OK')
return answer
