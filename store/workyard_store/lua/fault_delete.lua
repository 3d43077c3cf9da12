-- Remove one fault rule of a workspace, or all.
-- Atomic: with the last of them goes the mark that there are any.
-- KEYS[1] workspace. ARGV[1] wall us; [2] number of the rule or '' for all; [3] version of the rules from now on.
-- Answer: {how many were removed, what an environment copies (`profile`)}.
local RULES, COUNTS = BASE .. 'faults', BASE .. 'fault_counts'
local there = math.max(#call('HKEYS', RULES) - 1, 0)
local removed = there
if ARGV[2] ~= '' then
  removed = call('HDEL', RULES, ARGV[2])
  call('HDEL', COUNTS, ARGV[2] .. ' asked', ARGV[2] .. ' hits')
end
if removed == there then
  call('DEL', RULES, COUNTS)
  call('HDEL', STATE, 'faults')
else
  call('HSET', RULES, 'version', ARGV[3])
end
if removed > 0 then next_generation() end
local answer = profile()
table.insert(answer, 1, us(removed))
return answer
