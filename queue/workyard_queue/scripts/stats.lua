-- Read the queue's figures. The cost does not grow with the queue.
-- Atomic: depth + pending is the number of queued items of one instant.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''.
-- Answer: {'OK', depth, pending, date of the oldest live entry us or '', workers polling} | {'CLOUD'} | {'AGAIN'}
-- | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if E.kind == 'cloud' then return {'CLOUD'} end
if skip() then return {'AGAIN'} end
local depth, pending, first = counts()
-- Entries are delivered in stream order, so a pending one is older than any that waits.
local oldest
if pending > 0 then
  oldest = call('XRANGE', STREAM, first, first)[1]
elseif depth > 0 then
  oldest = call('XRANGE', STREAM, us(E.delivered + 1) .. '-0', '+', 'COUNT', 1)[1]
end
return {'OK', depth, pending, oldest and oldest[2][4] or '',
  call('ZCOUNT', POLLERS, '(' .. us(E.now - 30000000), '+inf')}
