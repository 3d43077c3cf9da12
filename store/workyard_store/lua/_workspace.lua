-- Shared head of every script about one workspace. KEYS[1]: its hash `…:{workspace}:state`. Argument: `wall`: wall clock, us.
--
-- The generation orders changes of clock and settings, so that an environment never takes an older one. It grows with
-- the wall clock, so it stays ahead even of what a reset workspace once had.
-- A script that makes something may answer, having only counted:
--   SEED     the workspace has a seed; ids have to follow from it and the number that comes with it
local call = redis.call
local STATE = KEYS[1]
local ENVS, LIVE = BASE .. 'envs', BASE .. 'live'

local function us(number)
  return string.format('%.0f', number)
end

-- Return the instant of this step: the workspace's clock, never before its last.
local function instant()
  local v = call('HMGET', STATE, 'shift', 'frozen', 'last')
  return math.max(tonumber(v[2] or '') or wall + tonumber(v[1] or '0'), tonumber(v[3] or '0'))
end

-- Return what an environment copies: shift, frozen, ttl, startup, reclaim, generation, faults, seed, auto, and the
-- generation of the last change of the clock: a change of settings is copied without the clock, which fires what it ends.
local function profile()
  local v = call('HMGET', STATE, 'shift', 'frozen', 'ttl', 'startup', 'reclaim', 'generation', 'faults', 'seed',
    'auto', 'ticked')
  return {v[1] or '0', v[2] or '', v[3] or '', v[4] or '', v[5] or '', v[6] or '0', v[7] or '', v[8] or '', v[9] or '',
    v[10] or v[6] or '0'}
end

-- Ids of a workspace with a seed are derived from it. Answer the seed and the number to derive them from, after counting and
-- nothing else; nil if they are derived already (`seeded`), or if there is no seed.
local function seed(kind, seeded)
  local value = call('HGET', STATE, 'seed') or ''
  if value == '' or seeded then return nil end
  return {'SEED', value, kind .. ' ' .. us(call('HINCRBY', STATE, 'seeded:' .. kind, 1))}
end

local function next_generation()
  local generation = math.max((tonumber(call('HGET', STATE, 'generation')) or 0) + 1, wall)
  call('HSET', STATE, 'generation', us(generation))
  return us(generation)
end
