-- Shared by the scripts that copy a workspace's clock and settings to one of its environments, after `_environment.lua`.

-- Take over generation, shift, frozen, ttl, startup, reclaim, faults, seed and auto as they stand in ARGV from `first` on.
-- Answer false if the environment has these already, or newer ones.
local function follow(first)
  if tonumber(ARGV[first]) <= tonumber(call('HGET', ENV, 'generation')) then return false end
  call('HSET', ENV, 'generation', ARGV[first], 'shift', ARGV[first + 1], 'frozen', ARGV[first + 2], 'ttl', ARGV[first + 3],
    'startup', ARGV[first + 4], 'reclaim', ARGV[first + 5], 'faults', ARGV[first + 6], 'seed', ARGV[first + 7],
    'auto', ARGV[first + 8])
  return true
end
