-- Name the sessions whose agent must act, and report when the passage of time makes the next one due.
-- Atomic: names and time are of one instant.
-- KEYS[1]: environment. Arguments: `most`: how many.
-- Answer: {'OK', microseconds until the next one has to, or -1 (none, or the clock stands still), session id, …} | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
local ahead = tonumber(call('ZRANGEBYSCORE', DUE, '(' .. us(E.now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
local answer = {'OK', ahead and not E.frozen and ahead - E.now or -1}
for _, id in ipairs(call('ZRANGEBYSCORE', DUE, '-inf', us(E.now), 'LIMIT', 0, most)) do
  answer[#answer + 1] = id
end
return answer
