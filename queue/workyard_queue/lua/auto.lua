-- In the clock's mode auto: report whether an environment is idle, and the next instant it waits for. Changes nothing,
-- except that ended leases lapse.
-- Atomic: leases and timers are of one instant.
-- KEYS[1]: environment. Arguments: `gone_us`: a worker that has not polled for so long, us of wall time, counts as gone;
-- `reclaim_us`: the server's default reclaim age, us; `ages`: the reclaim ages that blocked polls name, us, '' for none.
-- Answer: {'OK', how many items are leased, wall us of the last change or 0, instant us of the next timer or ''}: the age
-- of a hand-out when one of these polls may take it over, the end of the window of a departed worker, and the
-- instant for which an agent waits whose work is not queued (as long as it is, such an instant moves on) | {'AGAIN'} | {'GONE'}
-- | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
if settle() then return {'AGAIN'} end
local first

local function consider(instant)
  if instant and (not first or instant < first) then first = instant end
end

for _, named in ipairs(ages) do
  local age = tonumber(named) or reclaim_age(reclaim_us)
  local handed_out = due(POLLED, age, E.now, nil, 1)[2]
  consider(handed_out and handed_out + age)
end
local gone_since = wall - gone_us
local pollers = due(POLLERS, WINDOW, E.now, nil, 1000)
for i = 1, #pollers, 2 do
  if tonumber(call('ZSCORE', SEEN, pollers[i]) or 0) < gone_since then
    consider(pollers[i + 1] + WINDOW)
    break
  end
end
local agents = due(DUE, 0, E.now, nil, 1000)
for i = 1, #agents, 2 do
  local id = call('HGET', SESSION_ .. agents[i], 'work') or ''
  if E.kind == 'cloud' or call('HGET', work(id), 'state') ~= 'queued' then
    consider(tonumber(agents[i + 1]))
    break
  end
end
return {'OK', call('ZCARD', LEASES), call('HGET', ENV, 'stirred') or '0', first and us(first) or ''}
