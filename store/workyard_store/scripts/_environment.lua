-- Shared head of every script about one environment. KEYS[1]: its hash `…:{env_…}:env`.
-- ARGV[1]: wall clock, microseconds. ARGV[2]: the caller's workspace; '' where the caller may act anywhere; or the work id
-- and the digest of a sessions token of this environment (`E.item`, `E.digest`), which is good while it is on record.
--
-- begin() reads the environment and decides the instant of this step: the environment's clock applied to the wall
-- clock, never before the last instant that changed anything here. Answer words it may give instead of nil:
--   GONE     no such environment
--   FOREIGN  it is another workspace's (the caller decides whether that means "not found")
local call = redis.call
local ENV = KEYS[1]
local PREFIX, ENV_ID = string.match(ENV, '^(.-):{(.-)}:')
local WAKE = PREFIX .. ':wake'
local E = {}

local function us(number)
  return string.format('%.0f', number)
end

local function begin()
  local v = call('HMGET', ENV, 'ws', 'kind', 'archived', 'shift', 'frozen', 'last', 'ttl', 'startup', 'reclaim',
    'entry', 'delivered', 'tombs', 'seq', 'waiting')
  if not v[1] then return 'GONE' end
  E.item, E.digest = string.match(ARGV[2], '^(%S+) (%x+)$')
  if not E.item and ARGV[2] ~= '' and ARGV[2] ~= v[1] then return 'FOREIGN' end
  E.kind, E.archived, E.frozen = v[2], v[3] ~= '', v[5] ~= ''
  E.ttl, E.startup, E.reclaim = tonumber(v[7]), tonumber(v[8]), tonumber(v[9])
  E.entry, E.delivered = tonumber(v[10]) or 0, tonumber(v[11]) or 0
  E.tombs, E.seq, E.waiting = tonumber(v[12]) or 0, tonumber(v[13]) or 0, tonumber(v[14]) or 0
  E.last = tonumber(v[6]) or 0
  E.now = math.max(E.frozen and tonumber(v[5]) or tonumber(ARGV[1]) + tonumber(v[4]), E.last)
end

-- Remember the instant of a step that changes something.
local function touch()
  if E.now > E.last then
    call('HSET', ENV, 'last', us(E.now))
    E.last = E.now
  end
end

-- Wake blocked polls: one after the other while there is work, or all at once when time or the environment changed.
local function wake(all)
  call('PUBLISH', WAKE, all and ENV_ID .. '!' or ENV_ID)
end
