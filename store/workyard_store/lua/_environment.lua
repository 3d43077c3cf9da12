-- Shared head of every script about one environment. KEYS[1]: its hash `…:{env_…}:env`.
-- Arguments (`EnvironmentHead` in `heads.py` has the units): `wall`, `caller_workspace`, `token_work`, `token_digest`, `asks_faults`,
-- `seeded`, `timeline_events`, `trace`, `called_by`.
--
-- begin() reads the environment and decides the instant of this step: the environment's clock applied to the wall
-- clock, never before the last instant that changed anything here. Answer words it may give instead of nil:
--   GONE     no such environment
--   FOREIGN  it is another workspace's (the caller decides whether that means "not found")
--   UNISSUED, REVOKED  the caller's key was never issued, or is good no more
--   FAULTS   nothing was done: the fault rules of the workspace must be checked first, then the script is run again
-- and a script that makes something may give, having only counted:
--   SEED     the workspace has a seed; ids and secrets have to follow from it and the number that comes with it
local call = redis.call
local ENV = KEYS[1]
local PREFIX, ENV_ID = string.match(ENV, '^(.-):{(.-)}:')
local WAKE = PREFIX .. ':wake'
local E = {}

local function us(number)
  return string.format('%.0f', number)
end

-- What is wrong with the caller of a step in an environment of this workspace; nil: nothing, or the caller has a sessions
-- token, which is for another part to judge.
local function unfit(workspace)
  if token_work ~= '' then return nil end
  if token_digest == '' then return caller_workspace ~= '' and caller_workspace ~= workspace and 'FOREIGN' or nil end
  local key = call('HGET', KEYS_, token_digest)
  if not key then return 'UNISSUED' end
  if not string.find(key, '"revoked_at":null}$') then return 'REVOKED' end
end

local function begin()
  local v = call('HMGET', ENV, 'ws', 'kind', 'archived', 'shift', 'frozen', 'last', 'ttl', 'startup', 'reclaim',
    'entry', 'delivered', 'tombs', 'seq', 'waiting', 'faults', 'watched', 'twice', 'seed', 'whole',
    'auto')
  if not v[1] then return 'GONE' end
  local refusal = unfit(v[1])
  if refusal then return refusal end
  if asks_faults and v[15] and v[15] ~= '' then return 'FAULTS' end
  E.watched, E.seed, E.whole = tonumber(v[16] or ''), v[18] ~= '' and v[18], v[19]
  E.kind, E.archived, E.frozen = v[2], v[3] ~= '', v[5] ~= ''
  E.auto = E.frozen and v[20] == '1'
  E.ttl, E.startup, E.reclaim = tonumber(v[7]), tonumber(v[8]), tonumber(v[9])
  E.entry, E.delivered = tonumber(v[10]) or 0, tonumber(v[11]) or 0
  E.tombs, E.seq, E.waiting = tonumber(v[12]) or 0, tonumber(v[13]) or 0, tonumber(v[14]) or 0
  E.twice = v[17] or ''
  E.last = tonumber(v[6]) or 0
  E.now = math.max(E.frozen and tonumber(v[5]) or wall + tonumber(v[4]), E.last)
end

-- Record the instant of a step that changes something, in mode auto also that of the wall clock; and mark the change for
-- readers that read the environment in parts.
local function touch()
  if E.auto then call('HSET', ENV, 'stirred', us(wall)) end
  if E.whole then call('HDEL', ENV, 'whole') end
  if E.now > E.last then
    call('HSET', ENV, 'last', us(E.now))
    E.last = E.now
  end
end

-- Publish a message on the wake channel: its kind, and the words after it. `engine/wake.py` lists the messages.
local function announce(...)
  call('PUBLISH', WAKE, table.concat({...}, ' '))
end

-- Wake blocked polls: one after the other while there is work, or all together when time or the environment changed.
local function wake(all)
  announce(all and 'changed' or 'work', ENV_ID)
end

-- Notify the watchers of the environment of a change.
local function tell()
  if E.watched and E.watched > wall then announce('watched', ENV_ID) end
end

-- Ids and secrets of a workspace with a seed are derived from it. Answer the seed and the number to derive them from, after
-- counting and nothing else; nil if they are derived already, or if there is no seed.
local function seed(kind)
  if not E.seed or seeded then return nil end
  return {'SEED', E.seed, kind .. ' ' .. us(call('HINCRBY', ENV, 'seeded:' .. kind, 1))}
end

-- Add an event to the timeline of an item: its kind, the instant it took effect, the item's states before and after or '',
-- and pairs of a name and a value. `workyard_queue/timeline/` describes how it is written, and each kind.
local function note(kind, id, date, before, after, ...)
  if timeline_events then
    local event = table.concat({kind, id, us(date), us(wall), called_by, before, after, ...}, '\n')
    call('XADD', LIFE, 'MAXLEN', '~', timeline_events, '*', 'e', event)
  end
  tell()
end
