-- Shared by the scripts about timers, after `_environment.lua` and `_queue.lua`.

-- The reclaim age of polls that name none, in us. `default`: the server's.
local function reclaim_age(default)
  return E.reclaim and E.reclaim * 1000 or default
end

-- How long a poll counts its worker, in us.
local WINDOW = 30000000
local ENDS = {starting = 'startup_lease', active = 'lapse', stopping = 'wind_down'}

-- Members of a sorted set that are due in (from, to] when that is `after` us after their score, soonest first, each
-- followed by its score. `to`: us, or nil for ever.
local function due(key, after, from, to, most)
  return call('ZRANGEBYSCORE', key, '(' .. us(from - after), to and us(to - after) or '+inf', 'WITHSCORES', 'LIMIT', 0, most)
end

local function item_in(entry)
  return call('XRANGE', STREAM, entry, entry)[1][2][2]
end

-- The timers that end in (from, to], at most so many of each kind. A row: {kind, instant us, work id, session id, worker
-- id}, '' where it has none. Leases come in the order in which they lapse.
local function timers(from, to, age, most)
  local rows = {}
  local leases = due(LEASES, 0, from, to, most)
  for i = 1, #leases, 2 do
    local id = string.sub(leases[i], 18)
    local v = call('HMGET', work(id), 'state', 'session')
    rows[#rows + 1] = {ENDS[v[1]], us(tonumber(leases[i + 1])), id, v[2], ''}
  end
  local handed_out = due(POLLED, age, from, to, most)
  for i = 1, #handed_out, 2 do
    local id = item_in(handed_out[i])
    rows[#rows + 1] = {'reclaim', us(handed_out[i + 1] + age), id, call('HGET', work(id), 'session'), ''}
  end
  local pollers = due(POLLERS, WINDOW, from, to, most)
  for i = 1, #pollers, 2 do
    rows[#rows + 1] = {'poller_window', us(pollers[i + 1] + WINDOW), '', '', pollers[i]}
  end
  local agents = due(DUE, 0, from, to, most)
  for i = 1, #agents, 2 do
    local id = call('HGET', SESSION_ .. agents[i], 'work') or ''
    rows[#rows + 1] = {'agent', us(tonumber(agents[i + 1])), id, agents[i], ''}
  end
  return rows
end
