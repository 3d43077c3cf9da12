-- Read the metrics of an environment: the queue's figures, and the leases by the state of their items.
-- Atomic: all of one instant. The cost does not depend on the queue's length, and grows with the leases only up to a bound.
-- KEYS[1]: environment. Arguments: `most_leases`: how many leases to count by state.
-- Answer: {'OK', depth, pending, age of the oldest live entry us or '', workers polling, leases, of those looked up
-- starting, active, stopping} | {'CLOUD'} | {'AGAIN'} | {'GONE'}.
local refusal = open()
if refusal then return {refusal} end
if E.kind == 'cloud' then return {'CLOUD'} end
if skip() then return {'AGAIN'} end
local depth, pending, first = counts()
local found = {starting = 0, active = 0, stopping = 0}
for _, member in ipairs(call('ZRANGE', LEASES, 0, most_leases - 1)) do
  local state = call('HGET', work(string.sub(member, 18)), 'state')
  found[state] = (found[state] or 0) + 1
end
local oldest = oldest_date(depth, pending, first)
return {'OK', depth, pending, oldest and us(math.max(E.now - tonumber(oldest), 0)) or '', workers_polling(),
  call('ZCARD', LEASES), found.starting, found.active, found.stopping}
