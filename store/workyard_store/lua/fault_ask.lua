-- Count a call for the fault rules that match it, and decide which of them are applied to it.
-- Atomic: no two calls get the same number from a rule, and no rule exceeds its maximum number of applications.
-- KEYS[1]: workspace. Arguments: `version` of the rules that the caller knows; `settled`: whether the call's answer is settled
-- already; `rules`: a row for each that the call fits, in their order: `number`; `nth`: which calls (every, numbers with commas
-- around, or '' for all); `probability` or nil; `dice_seed`, below 2^24; `times`: how often at most, or nil; `ends_at`, us, or
-- nil; `settles`: whether the call's answer is settled by it.
-- Of the rules that settle the answer, only the first is applied; the others only count the call.
-- Answer: {'OK', number, number, …} | {'STALE', version or '', name, value, …}: the rules have changed; nothing was counted.
local RULES, COUNTS = BASE .. 'faults', BASE .. 'fault_counts'

-- A number from 0 to 1 derived from a seed and the number of a call, with integers that a double holds exactly, so
-- that every engine has the same.
local function dice(seed, asked)
  local modulus = 67108859
  local x = (seed + asked * 40503) % modulus
  for _ = 1, 4 do x = (x * x + seed + asked) % modulus end
  return x / modulus
end

local current = call('HGET', RULES, 'version') or ''
if current ~= version then
  local stored = call('HGETALL', RULES)
  table.insert(stored, 1, current)
  table.insert(stored, 1, 'STALE')
  return stored
end
local now, answer = instant(), {'OK'}
for _, rule in ipairs(rules) do
  if not rule.ends_at or now < rule.ends_at then
    local asked = call('HINCRBY', COUNTS, rule.number .. ' asked', 1)
    local hits = tonumber(call('HGET', COUNTS, rule.number .. ' hits') or '0')
    local meant = true
    if rule.probability then
      meant = dice(rule.dice_seed, asked) < rule.probability
    elseif rule.nth ~= '' and rule.nth ~= 'every' then
      meant = string.find(rule.nth, ',' .. us(asked) .. ',', 1, true)
    end
    if meant and (not rule.times or hits < rule.times) and not (settled and rule.settles) then
      settled = settled or rule.settles
      call('HINCRBY', COUNTS, rule.number .. ' hits', 1)
      answer[#answer + 1] = rule.number
    end
  end
end
return answer
