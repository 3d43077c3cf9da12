-- Recount an environment from its raw keys and report violations of the queue's invariants. Changes nothing; it does not
-- even lapse ended leases.
-- Atomic: all figures are of one instant, even under load.
-- KEYS[1]: environment. Arguments: `most`: items (and stream entries) to look at one by one; `shown`: most violations to
-- answer; `windows`: for a longer queue, where in its stretch of the index each part of the sample begins: integers of 0–999999.
-- Answer: {'OK', {rule, work id or '', text, …}, {violations, items, looked at, queued, leases, stopped, entries into
-- stopped}}: the last three count what was looked at | {'GONE'} | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
local found, violations = {}, 0

local function check(holds, rule, id, text, ...)
  if holds then return end
  violations = violations + 1
  if violations <= shown then
    found[#found + 1] = rule
    found[#found + 1] = id
    found[#found + 1] = string.format(text, ...)
  end
end

local function pairs_of(flat)
  local map = {}
  for i = 1, #flat, 2 do
    map[flat[i]] = flat[i + 1]
  end
  return map
end

-- The sessions; of a larger number, only the newest are checked.
local active = 0
for _, id in ipairs(call('ZRANGE', SESSIONS, -most, -1)) do
  local key = SESSION_ .. id
  local v = call('HMGET', key, 'status', 'entry', 'seen', 'work', 'archived', 'stub')
  -- A place without a record is that of a session being made or removed.
  if v[1] then
    if v[1] ~= 'terminated' and not v[6] then active = active + 1 end
    local item = E.kind == 'self_hosted' and v[4] or ''
    check(item == '' or call('EXISTS', work(item)) == 1, 'session', item, '%s has no work item', id)
    local last = call('XREVRANGE', EVENTS_ .. id, '+', '-', 'COUNT', 1)[1]
    check((last and last[1] or '0-0') == v[2] .. '-0', 'session', item, '%s: the last event is %s, on record %s', id,
      last and last[1] or 'none', v[2])
    check(v[2] == v[3] or call('ZSCORE', DUE, id), 'session', item, '%s has events that no agent is to read', id)
    check(v[5] == '' or v[1] == 'terminated', 'session', item, '%s is archived and %s', id, v[1])
  end
end
local counted = tonumber(call('HGET', ENV, 'active') or 0)
check(active == counted or call('ZCARD', SESSIONS) > most, 'session', '', '%d sessions are active, %d are counted', active, counted)
for _, id in ipairs(call('ZRANGE', DUE, 0, most - 1)) do
  check(call('EXISTS', SESSION_ .. id) == 1, 'session', '', '%s is due and does not exist', id)
end

if E.kind == 'cloud' then
  check(call('EXISTS', STREAM, POLLED, LEASES, INDEX, IDEM) == 0, 'counts', '', 'a cloud environment has a queue')
  return {'OK', found, {violations, 0, 0, 0, 0, 0, 0}}
end

local items = call('ZCARD', INDEX)
local whole = items <= most and call('XLEN', STREAM) <= most
local delivered = us(E.delivered) .. '-0'
local depth, pending, oldest_pending = counts()
local last_delivered = pairs_of(call('XINFO', 'GROUPS', STREAM)[1])['last-delivered-id']
local first_needed = pending > 0 and oldest_pending or us(E.delivered + 1) .. '-0'
local oldest = call('XRANGE', STREAM, '-', '+', 'COUNT', 1)[1]
local newest = call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)[1]

check(items == E.seq, 'item_lost', '', '%d items were enqueued, %d are in the index', E.seq, items)
check(pending == call('ZCARD', POLLED), 'pending', '', '%d entries are pending in the group, %d handed out', pending,
  call('ZCARD', POLLED))
check(depth >= 0, 'counts', '', 'depth is %d', depth)
check(depth + pending <= items, 'counts', '', 'depth %d and pending %d of %d items', depth, pending, items)
check(last_delivered == delivered, 'counts', '', 'the group has delivered %s, the record says %s', last_delivered,
  delivered)
check(not newest or newest[1] <= us(E.entry) .. '-0', 'stamps', '', 'the stream is ahead of its record')
check(not oldest or oldest[1] >= first_needed, 'trimmed', '', 'entry %s is needed no more', oldest and oldest[1])

-- For a queue that is checked completely, the data to compare items with is read once; for a sample, per item.
local in_stream, handed_out, leased = {}, {}, {}
if whole then
  for _, entry in ipairs(call('XRANGE', STREAM, '-', '+')) do in_stream[entry[1]] = entry[2][2] end
  for _, entry in ipairs(call('ZRANGE', POLLED, 0, -1)) do handed_out[entry] = true end
  for _, lease in ipairs(call('ZRANGE', LEASES, 0, -1)) do leased[lease] = true end
end

local function owner_of(entry)
  if whole or entry == '' then return in_stream[entry] end
  local found = call('XRANGE', STREAM, entry, entry)[1]
  return found and found[2][2]
end

local function is_handed_out(entry)
  if whole then return handed_out[entry] or false end
  return call('ZSCORE', POLLED, entry) and true or false
end

local function has_lease(member)
  if whole then return leased[member] or false end
  return call('ZSCORE', LEASES, member) and true or false
end

local LEASED = {starting = true, active = true, stopping = true}
-- State → stamps that an item must have (true) and must not have (false).
local STAGES = {
  queued = {acked = false, started = false, beat = false, stop = false, stopped = false},
  starting = {acked = true, started = false, beat = false, stop = false, stopped = false},
  active = {acked = true, started = true, beat = true, stop = false, stopped = false},
  stopping = {acked = true, stop = true, stopped = false},
  stopped = {stop = true, stopped = true},
}
-- Each is never later than the next, where both are there; `ever` may be ahead of the clock by microseconds.
local CHAINS = {{'created', 'acked', 'started', 'beat'}, {'beat', 'ever'}, {'created', 'acked', 'stop', 'stopped'}, {'started', 'stop'}}
local looked, leases, stopped, ends, queued = 0, 0, 0, 0, 0
-- Live entry → item.
local live = {}

local function look(id, seq)
  looked = looked + 1
  local item = pairs_of(call('HGETALL', work(id)))
  local stages = STAGES[item.state or '']
  check(stages and item.seq and item.entry, 'item_lost', id, 'in the index, but not stored as an item')
  if not (stages and item.seq and item.entry) then return end
  check(tonumber(item.seq) == tonumber(seq), 'item_lost', id, 'sequence %s, in the index %s', item.seq, seq)
  for name, wanted in pairs(stages) do
    check((item[name] ~= nil) == wanted, 'stamps', id, '%s while %s', item[name] and name or 'no ' .. name, item.state)
  end
  for _, chain in ipairs(CHAINS) do
    local before, at
    for _, name in ipairs(chain) do
      if item[name] then
        check(not before or tonumber(item[name]) >= at, 'stamps', id, '%s is before %s', name, before)
        before, at = name, tonumber(item[name])
        check(name == 'beat' or name == 'ever' or at <= E.now, 'stamps', id, '%s is in the future', name)
      end
    end
  end
  local lease = has_lease(lease_member(item.seq, id))
  check(lease == (LEASED[item.state] or false), 'lease', id, '%s lease while %s', lease and 'a' or 'no', item.state)
  if lease then leases = leases + 1 end
  if item.state == 'queued' then
    queued = queued + 1
    live[item.entry] = id
    check(owner_of(item.entry) == id, 'entry', id, 'its entry %s is not in the stream', item.entry)
    local is_out = is_handed_out(item.entry)
    check(is_out == (item.entry <= delivered), 'pending', id, 'entry %s was %sdelivered and %shanded out',
      item.entry, item.entry <= delivered and '' or 'not ', is_out and '' or 'not ')
  else
    check(item.entry == '', 'entry', id, 'a live entry while %s', item.state)
  end
  local ended, revived = tonumber(item.ended or 0), tonumber(item.revived or 0)
  local is_stopped = item.state == 'stopped' and 1 or 0
  check(ended == revived + is_stopped, 'life', id, 'entered stopped %d times and left it %d times, and is %s', ended,
    revived, item.state)
  check(item.gone ~= '1' or call('EXISTS', SESSION_ .. item.session, EVENTS_ .. item.session) == 0, 'session', id,
    '%s was deleted and is still there', item.session)
  stopped, ends = stopped + is_stopped, ends + ended
end

if not whole then
  -- One part of each stretch of the index, so that none is looked at twice.
  local parts = #windows
  local stretch = items / parts
  local size = math.floor(math.min(most / parts, stretch))
  for part = 1, parts do
    local from = math.floor((part - 1) * stretch + (stretch - size) * windows[part] / 999999)
    local members = call('ZRANGE', INDEX, from, from + size - 1, 'WITHSCORES')
    for i = 1, #members, 2 do look(members[i], members[i + 1]) end
  end
  return {'OK', found, {violations, items, looked, depth + pending, leases, stopped, ends}}
end

local index = call('ZRANGE', INDEX, 0, -1, 'WITHSCORES')
for i = 1, #index, 2 do
  check(tonumber(index[i + 1]) == (i + 1) / 2, 'item_lost', index[i], 'sequence %s at place %d', index[i + 1], (i + 1) / 2)
  look(index[i], index[i + 1])
end
-- The other direction: every lease, waiting entry and pending entry belongs to a checked item.
check(call('ZCARD', LEASES) == leases, 'lease', '', '%d leases, %d items under lease', call('ZCARD', LEASES), leases)
local waiting, dead = 0, 0
for entry, id in pairs(in_stream) do
  if entry > delivered then
    if live[entry] == id then waiting = waiting + 1 else dead = dead + 1 end
  end
end
check(waiting == depth, 'counts', '', 'depth is %d, %d live entries wait', depth, waiting)
check(dead == E.tombs, 'counts', '', '%d tombstones are counted, %d are there', E.tombs, dead)
check(depth + pending == queued, 'counts', '', 'depth %d and pending %d, but %d items are queued', depth, pending, queued)
if pending > 0 then
  for _, row in ipairs(call('XPENDING', STREAM, GROUP, '-', '+', pending)) do
    check(live[row[1]], 'pending', in_stream[row[1]] or '', 'entry %s is pending and not live', row[1])
    check(handed_out[row[1]], 'pending', '', 'entry %s is pending and was not handed out', row[1])
  end
end
return {'OK', found, {violations, items, looked, queued, leases, stopped, ends}}
