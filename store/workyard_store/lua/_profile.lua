-- Shared by the scripts that copy a workspace's clock and settings to one of its environments, after `_environment.lua`.

-- Take over generation, shift, frozen, ttl, startup, reclaim, faults, seed, auto and the clock's own generation, as they
-- stand in ARGV from `first` on: the settings unless newer ones are here, the clock only if `clock`. Answer whether that was
-- newer.
local function follow(first, clock)
  local have = call('HMGET', ENV, 'generation', 'ticked')
  if tonumber(ARGV[first]) > tonumber(have[1]) then
    call('HSET', ENV, 'generation', ARGV[first], 'ttl', ARGV[first + 3], 'startup', ARGV[first + 4],
      'reclaim', ARGV[first + 5], 'faults', ARGV[first + 6], 'seed', ARGV[first + 7])
  end
  local newer = clock and tonumber(ARGV[first + 9]) > tonumber(have[2] or have[1])
  if newer then
    call('HSET', ENV, 'ticked', ARGV[first + 9], 'shift', ARGV[first + 1], 'frozen', ARGV[first + 2],
      'auto', ARGV[first + 8])
  end
  return newer
end
