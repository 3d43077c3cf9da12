-- Read a part of an item's timeline, from its newest event back, and the item in its state at the clock's instant.
-- Atomic: the item and its newest events are of one instant.
-- KEYS[1]: environment. Arguments: `work_id`; `below`: entry to continue below, or ''; `count`: how many of the environment's
-- events to look through.
-- Answer: {'OK', now us, '1' if the clock stands still else '', state, session id, end of the lease us or '', workers polling,
-- entry to continue below or '' when all was looked through, {{entry, event}, …}: the item's events, newest first}
-- | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local v = call('HMGET', work(work_id), 'state', 'session', 'seq')
if not v[1] then return {'MISSING'} end
local found, of = {}, '^[^\n]*\n' .. work_id .. '\n'
local part = call('XREVRANGE', LIFE, below == '' and '+' or '(' .. below, '-', 'COUNT', count)
for _, entry in ipairs(part) do
  if string.find(entry[2][2], of) then found[#found + 1] = {entry[1], entry[2][2]} end
end
local lease = call('ZSCORE', LEASES, lease_member(v[3], work_id))
return {'OK', us(E.now), E.frozen and '1' or '', v[1], v[2], lease and us(tonumber(lease)) or '',
  call('ZCOUNT', POLLERS, '(' .. us(E.now - 30000000), '+inf'), #part == count and part[#part][1] or '', found}
