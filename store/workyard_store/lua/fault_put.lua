-- Add fault rules to a workspace, after the existing ones or in their place.
-- Atomic: all of them or none; every call sees either the old rules or the new.
-- KEYS[1]: workspace. Arguments: `version` of the rules from now on; `replace`: whether to remove the rules there are;
-- `most` rules; `rules`: rows of `text`, and `lives_us`: for how long it lives in us of the workspace's time, or nil.
-- Answer: {'OK', number of the first, what an environment copies (`profile`)} | {'FULL'}.
local RULES, COUNTS = BASE .. 'faults', BASE .. 'fault_counts'
local there = replace and 0 or math.max(#call('HKEYS', RULES) - 1, 0)
if there + #rules > most then return {'FULL'} end
if replace then call('DEL', RULES, COUNTS) end
local now = instant()
local last = tonumber(call('HGET', COUNTS, 'last') or '0')
for i, rule in ipairs(rules) do
  local number = us(last + i)
  local ends = rule.lives_us and us(now + rule.lives_us) or ''
  call('HSET', RULES, number, ends .. '\n' .. rule.text)
  call('HSET', COUNTS, 'last', number)
end
call('HSET', RULES, 'version', version)
call('HSET', STATE, 'faults', '1')
next_generation()
return {'OK', last + 1, profile()}
