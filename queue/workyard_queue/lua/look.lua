-- Read an environment for a client that waits for a change, and let its scripts report changes for a while.
-- Atomic: no change can be lost between the read and the mark.
-- KEYS[1]: environment. Arguments: `watch_until`: wall us until which it is watched, or nil; `work_id`, or ''; `since`: entry of
-- the timeline after which the item's states count, '' for none of them; `count`: events to look through for them.
-- Answer: {'OK', '1' if the item is here, its state or '', {state, …}: those it entered, entry of the timeline that was
-- reached, depth, pending, items under lease, all items, workers polling, microseconds until time alone changes one of these
-- or -1, 0 if there may be more states} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if watch_until and (E.watched or 0) < watch_until then call('HSET', ENV, 'watched', us(watch_until)) end
local entered, reached, more = {}, since, false
if reached == '' then
  local newest = call('XREVRANGE', LIFE, '+', '-', 'COUNT', 1)[1]
  reached = newest and newest[1] or '0-0'
elseif work_id ~= '' then
  local part = call('XRANGE', LIFE, '(' .. reached, '+', 'COUNT', count)
  more = #part == count
  for _, entry in ipairs(part) do
    reached = entry[1]
    local of, after = string.match(entry[2][2], '^[^\n]*\n([^\n]*)\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)')
    if of == work_id and after ~= '' then entered[#entered + 1] = after end
  end
end
local state = work_id ~= '' and call('HGET', work(work_id), 'state')
local depth, pending = 0, 0
if E.kind ~= 'cloud' then depth, pending = counts() end
local window = us(E.now - 30000000)
local due = -1
if not E.frozen then
  local lease = call('ZRANGE', LEASES, 0, 0, 'WITHSCORES')[2]
  local poller = call('ZRANGEBYSCORE', POLLERS, '(' .. window, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if lease then due = tonumber(lease) - E.now end
  if poller and (due < 0 or tonumber(poller) + 30000000 - E.now < due) then due = tonumber(poller) + 30000000 - E.now end
end
if more then due = 0 end
return {'OK', state and '1' or '', state or '', entered, reached, depth, pending, call('ZCARD', LEASES), call('ZCARD', INDEX),
  call('ZCOUNT', POLLERS, '(' .. window, '+inf'), due}
