-- Shared by the scripts that copy a workspace's clock and settings to one of its environments, after `_environment.lua`.
-- Arguments (`ProfileHead` in `heads.py`): `generation`, `shift`, `frozen`, `ttl`, `startup`, `reclaim`, `faults`, `id_seed`, `auto`,
-- `ticked`.

-- Take over the settings unless newer ones are here, and the clock only if `clock`. Answer whether that was newer.
local function follow(clock)
  local have = call('HMGET', ENV, 'generation', 'ticked')
  if tonumber(generation) > tonumber(have[1]) then
    call('HSET', ENV, 'generation', generation, 'ttl', ttl, 'startup', startup, 'reclaim', reclaim, 'faults', faults,
      'seed', id_seed)
  end
  local newer = clock and tonumber(ticked) > tonumber(have[2] or have[1])
  if newer then
    call('HSET', ENV, 'ticked', ticked, 'shift', shift, 'frozen', frozen, 'auto', auto)
  end
  return newer
end
