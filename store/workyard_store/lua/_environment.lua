-- Shared head of every script about one environment. KEYS[1]: its hash `…:{env_…}:env`.
-- ARGV[1]: wall clock, microseconds. ARGV[2], lines: the caller's workspace, or '' where the caller may act anywhere, or
-- the work id and the digest of a sessions token of this environment (`E.item`, `E.digest`), which is good while it is on
-- record, or '!' and the digest of a key of this environment, which has to be good; '?' if the call has not been asked
-- about faults yet, and '=' if the ids and secrets that the script is given follow from the workspace's seed
-- (`E.seeded`); how many events the timeline keeps, '' for none (`E.keep`); the call's traceparent, if it has one
-- (`E.trace`); and who calls, as JSON, to the end (`E.by`: where it begins). A step that the server takes by itself may
-- leave out all but the first.
--
-- begin() reads the environment and decides the instant of this step: the environment's clock applied to the wall
-- clock, never before the last instant that changed anything here. Answer words it may give instead of nil:
--   GONE     no such environment
--   FOREIGN  it is another workspace's (the caller decides whether that means "not found")
--   UNISSUED, REVOKED  the caller's key was never issued, or is good no more
--   FAULTS   nothing was done: fault rules of the workspace have to be asked first, then the script is run again
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

-- What is wrong with a caller that is not of the environment's workspace; nil: it has a good key.
local function unfit(scope)
  local digest = string.match(scope, '^!(%x+)$')
  if not digest then return 'FOREIGN' end
  local key = call('HGET', KEYS_, digest)
  if not key then return 'UNISSUED' end
  if not string.find(key, '"revoked_at":null}$') then return 'REVOKED' end
end

local function begin()
  local v = call('HMGET', ENV, 'ws', 'kind', 'archived', 'shift', 'frozen', 'last', 'ttl', 'startup', 'reclaim',
    'entry', 'delivered', 'tombs', 'seq', 'waiting', 'faults', 'watched', 'twice', 'seed', 'whole',
    'auto')
  if not v[1] then return 'GONE' end
  local scope, asks, keep, trace, by = string.match(ARGV[2], '^([^\n]*)\n([?=]*)\n(%d*)\n([^\n]*)\n()')
  if not scope then scope = ARGV[2] end
  E.item, E.digest = string.match(scope, '^(%S+) (%x+)$')
  local refusal = not E.item and scope ~= '' and scope ~= v[1] and unfit(scope)
  if refusal then return refusal end
  if string.sub(asks or '', 1, 1) == '?' and v[15] and v[15] ~= '' then return 'FAULTS' end
  E.keep, E.by, E.trace, E.watched = keep ~= '' and keep, by, trace or '', tonumber(v[16] or '')
  E.seed, E.seeded, E.whole = v[18] ~= '' and v[18], string.sub(asks or '', -1) == '=', v[19]
  E.kind, E.archived, E.frozen = v[2], v[3] ~= '', v[5] ~= ''
  E.auto = E.frozen and v[20] == '1'
  E.ttl, E.startup, E.reclaim = tonumber(v[7]), tonumber(v[8]), tonumber(v[9])
  E.entry, E.delivered = tonumber(v[10]) or 0, tonumber(v[11]) or 0
  E.tombs, E.seq, E.waiting = tonumber(v[12]) or 0, tonumber(v[13]) or 0, tonumber(v[14]) or 0
  E.twice = v[17] or ''
  E.last = tonumber(v[6]) or 0
  E.now = math.max(E.frozen and tonumber(v[5]) or tonumber(ARGV[1]) + tonumber(v[4]), E.last)
end

-- Remember the instant of a step that changes something, in mode auto also the wall clock's; and tell who reads the environment
-- in parts.
local function touch()
  if E.auto then call('HSET', ENV, 'stirred', ARGV[1]) end
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

-- Wake blocked polls: one after the other while there is work, or all at once when time or the environment changed.
local function wake(all)
  announce(all and 'changed' or 'work', ENV_ID)
end

-- Tell those who watch the environment that something has changed.
local function tell()
  if E.watched and E.watched > tonumber(ARGV[1]) then announce('watched', ENV_ID) end
end

-- Ids and secrets of a workspace with a seed follow from it. Answer what the caller is to make them of, having done nothing
-- but count; nil if it has, or there is no seed.
local function seed(kind)
  if not E.seed or E.seeded then return nil end
  return {'SEED', E.seed, kind .. ' ' .. us(call('HINCRBY', ENV, 'seeded:' .. kind, 1))}
end

-- Add an event to the timeline of an item: its kind, the instant it took effect, the item's states before and after or '',
-- and pairs of a name and a value. `workyard_queue/timeline.py` tells how it is written, and what each kind says.
local function note(kind, id, date, before, after, ...)
  if E.keep then
    local by = string.sub(ARGV[2], E.by)
    local event = table.concat({kind, id, us(date), ARGV[1], by, before, after, ...}, '\n')
    call('XADD', LIFE, 'MAXLEN', '~', E.keep, '*', 'e', event)
  end
  tell()
end
