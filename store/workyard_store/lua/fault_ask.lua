-- Count a call for the fault rules that it fits, and decide which of them are applied to it.
-- Atomic: no two calls are the same one to a rule, and none is applied more often than it says.
-- KEYS[1] workspace. ARGV[1] wall us; [2] version of the rules that the caller knows; [3] '1' if the call's answer is settled
-- already; then for each rule that the call fits, in their order: its number; which calls (`every`, numbers with commas
-- around, or '' for all); its probability or ''; the seed of its dice, below 2^24; how often at most or ''; when it ends,
-- us, or ''; '1' if the call's answer is settled by it.
-- Of rules that settle the answer the first is applied; the others are counted as asked only.
-- Answer: {'OK', number, number, …} | {'STALE', version or '', name, value, …}: the rules have changed; nothing was counted.
local RULES, COUNTS = BASE .. 'faults', BASE .. 'fault_counts'

-- A number from 0 to 1 that follows from a seed and the number of a call: whole numbers that a double holds exactly, so
-- that every engine has the same.
local function dice(seed, asked)
  local modulus = 67108859
  local x = (seed + asked * 40503) % modulus
  for _ = 1, 4 do x = (x * x + seed + asked) % modulus end
  return x / modulus
end

local version = call('HGET', RULES, 'version') or ''
if version ~= ARGV[2] then
  local stored = call('HGETALL', RULES)
  table.insert(stored, 1, version)
  table.insert(stored, 1, 'STALE')
  return stored
end
local now, settled, answer = instant(), ARGV[3] == '1', {'OK'}
for i = 4, #ARGV, 7 do
  local number, nth, probability, seed, times, ends, settles = unpack(ARGV, i, i + 6)
  if ends == '' or now < tonumber(ends) then
    local asked = call('HINCRBY', COUNTS, number .. ' asked', 1)
    local hits = tonumber(call('HGET', COUNTS, number .. ' hits') or '0')
    local meant = true
    if probability ~= '' then
      meant = dice(tonumber(seed), asked) < tonumber(probability)
    elseif nth ~= '' and nth ~= 'every' then
      meant = string.find(nth, ',' .. us(asked) .. ',', 1, true)
    end
    if meant and (times == '' or hits < tonumber(times)) and not (settled and settles == '1') then
      settled = settled or settles == '1'
      call('HINCRBY', COUNTS, number .. ' hits', 1)
      answer[#answer + 1] = number
    end
  end
end
return answer
