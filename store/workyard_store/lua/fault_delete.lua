-- Remove one fault rule of a workspace, or all.
-- Atomic: the mark that there are rules is removed with the last rule.
-- KEYS[1]: workspace. Arguments: `number` of the rule, or '' for all; `version` of the rules from now on.
-- Answer: {'OK', how many were removed, what an environment copies (`profile`)}.
local RULES, COUNTS = BASE .. 'faults', BASE .. 'fault_counts'
local there = math.max(#call('HKEYS', RULES) - 1, 0)
local removed = there
if number ~= '' then
  removed = call('HDEL', RULES, number)
  call('HDEL', COUNTS, number .. ' asked', number .. ' hits')
end
if removed == there then
  call('DEL', RULES, COUNTS)
  call('HDEL', STATE, 'faults')
else
  call('HSET', RULES, 'version', version)
end
if removed > 0 then next_generation() end
return {'OK', removed, profile()}
