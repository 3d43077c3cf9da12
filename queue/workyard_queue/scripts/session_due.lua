-- Name sessions whose agent has to act.
-- Atomic: none; it reads, at the instant that the environment's clock shows.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] how many at most.
-- Answer: {'OK', session id, …} | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
local answer = {'OK'}
for _, id in ipairs(call('ZRANGEBYSCORE', DUE, '-inf', us(E.now), 'LIMIT', 0, ARGV[3])) do
  answer[#answer + 1] = id
end
return answer
