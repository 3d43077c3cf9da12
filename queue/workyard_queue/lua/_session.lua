-- Shared rules of sessions, after the heads `_environment.lua` and `_queue.lua`.
--
-- A session is a hash: number (creation sequence in the workspace), agent, title, metadata, resources, vaults (JSON each),
-- created, updated, archived ('' while it is not), status, since (when it began to run), active (microseconds it ran),
-- entry (its last event), seen (the last event that the agent has read), script (JSON) and source of it (none before the
-- first turn, unless it was given), state (the agent's, JSON), busy ('1': in mid-turn), version (grows with every change),
-- work (its item's id), stub ('1': the control plane enqueued its work). Instants are microseconds.
--
-- An event is an entry of the session's stream: e (JSON, without its date), t (its date). Entry ids are `<microseconds>-0`,
-- strictly rising. The environment counts in `active` its sessions that are not terminated, but for those of the control
-- plane. A session is in DUE while events wait that its agent has not read, or the agent waits for an instant.
local function session(id)
  return SESSION_ .. id
end

local function count_active(id, more)
  if not call('HGET', session(id), 'stub') then call('HINCRBY', ENV, 'active', more) end
end

-- Begin a session's events with an idle event: workers wait for it before they measure the idle time.
local function begin_idle(id, date)
  local event = '{"id":"sevt_' .. string.match(id, '_(.*)') .. '","type":"session.status_idle","stop_reason":{"type":"end_turn"}}'
  call('XADD', EVENTS_ .. id, date .. '-0', 'e', event, 't', date)
  call('HSET', session(id), 'entry', date, 'seen', date)
end

-- Store a new session, idle since `date`. Answer nothing.
local function store(id, work_id, date, number, agent, title, metadata, resources, vaults)
  call('HSET', session(id), 'work', work_id, 'number', number, 'agent', agent, 'title', title, 'metadata', metadata,
    'resources', resources, 'vaults', vaults, 'created', date, 'updated', date, 'archived', '', 'status', 'idle', 'active', '0',
    'entry', '0', 'seen', '0', 'state', 'null', 'version', '1')
end

-- Answer a session's status, or nil if there is none. A work item that the control plane enqueued has a session: it is
-- stored when it is first looked for, so that enqueueing for workers that need none costs nothing.
local function reach(id, work_id)
  local status = call('HGET', session(id), 'status')
  if status then return status end
  local item = call('HMGET', work(work_id), 'session', 'created', 'gone')
  if not item[1] or item[3] == '1' then return nil end
  call('ZADD', SESSIONS, call('HINCRBY', ENV, 'sessions', 1), id)
  store(id, work_id, item[2], '', '', 'null', '{}', '[]', '[]')
  call('HSET', session(id), 'stub', '1')
  begin_idle(id, item[2])
  return 'idle'
end

local function changed(id)
  call('HINCRBY', session(id), 'version', 1)
  touch()
end

-- Append events (JSON each) and notify the listeners.
local function append(id, events)
  if not events[1] then return end
  local entry = tonumber(call('HGET', session(id), 'entry'))
  for _, event in ipairs(events) do
    entry = math.max(E.now, entry + 1)
    call('XADD', EVENTS_ .. id, us(entry) .. '-0', 'e', event, 't', us(E.now))
  end
  call('HSET', session(id), 'entry', us(entry))
  announce('events', id)
end

-- Set a session's status; the time spent running is added up.
local function become(id, status)
  local v = call('HMGET', session(id), 'status', 'since')
  if v[1] == status then return end
  if v[1] == 'running' then call('HINCRBY', session(id), 'active', us(E.now - tonumber(v[2]))) end
  if status == 'terminated' then count_active(id, -1) end
  call('HSET', session(id), 'status', status, 'since', us(E.now), 'updated', us(E.now))
end

-- End the work of a session that no worker has to serve any more; no message will bring it back.
local function release(work_id)
  local state = call('HGET', work(work_id), 'state')
  if not state then return end
  call('HDEL', work(work_id), 'message')
  if state ~= 'stopped' then
    stop_now(work_id, 'session')
  end
end

-- Since when a worker holds a session's work, in microseconds; '' if no worker does.
local function held_since(work_id)
  local item = call('HMGET', work(work_id), 'state', 'acked')
  return item[1] ~= 'queued' and item[1] ~= 'stopped' and item[2] or ''
end

-- Whether the agent has to act now.
local function is_due(id)
  local due = call('ZSCORE', DUE, id)
  return due and tonumber(due) <= E.now and '1' or ''
end
