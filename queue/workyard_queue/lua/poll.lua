-- Hand an item out: the reclaimable one that was handed out longest ago, else the oldest waiting one.
-- Atomic: no two polls get one item, and a token is minted only with the hand-out. A fault rule may have an item handed
-- out once more (`fault.lua`).
-- KEYS[1]: environment. Arguments: `worker_id`, or ''; `reclaim_us`: reclaim age in us, or nil for the workspace's;
-- `default_reclaim_us`: the server's; `token_sha`: SHA-256 of the token to mint.
-- Answer: {'WORK', work id, fields of the item} | {'NONE', microseconds until the next lease ends or -1, microseconds
-- since the oldest hand-out or -1, reclaim age in us of a poll that names none, 1 in mode auto}: -1 also while the clock
-- stands still | {'SEED', seed, place} | {'CLOUD'} | {'AGAIN'} | {'GONE'}
-- | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if E.kind == 'cloud' then return {'CLOUD'} end
if worker_id ~= '' then
  if E.auto then
    -- The clock stands: only the wall clock shows which workers no longer poll.
    call('ZADD', SEEN, us(wall), worker_id)
    call('ZREMRANGEBYSCORE', SEEN, '-inf', us(wall - 60000000))
  end
  call('ZREMRANGEBYSCORE', POLLERS, '-inf', us(E.now - 30000000))
  if call('ZADD', POLLERS, us(E.now), worker_id) == 1 then tell() end
end

-- Remove the oldest item from the list of items to hand out twice, if another worker got it first.
local function given_twice()
  local found, rest = nil, {}
  for line in string.gmatch(E.twice, '[^\n]+') do
    local id, holder = string.match(line, '^(%S+) (.*)$')
    if found or (holder ~= '' and holder == worker_id) then
      rest[#rest + 1] = line
    else
      found = id
    end
  end
  if found then call('HSET', ENV, 'twice', table.concat(rest, '\n')) end
  return found
end

-- The fields of an item as they were when it was first handed out.
local function as_queued(id)
  local later = {}
  for _, field in ipairs(STAGE_FIELDS) do later[field] = true end
  local fields, shown = call('HGETALL', work(id)), {}
  for i = 1, #fields, 2 do
    if not later[fields[i]] then
      shown[#shown + 1] = fields[i]
      shown[#shown + 1] = fields[i] == 'state' and 'queued' or fields[i + 1]
    end
  end
  return shown
end

local ask = E.twice ~= '' and seed('token')
if ask then return ask end
local twice = E.twice ~= '' and given_twice()
local held = twice and call('HGET', work(twice), 'entry')
if held then
  if held ~= '' then call('ZADD', POLLED, 'XX', us(E.now), held) end
  call('SADD', TOKENS_ .. twice, token_sha)
  touch()
  note('offered', twice, E.now, '', '', 'd', string.sub(token_sha, 1, 8))
  return {'WORK', twice, as_queued(twice)}
end
local default_age = E.reclaim and E.reclaim * 1000 or default_reclaim_us
local age = reclaim_us or default_age
local entry
local reclaimable = call('ZRANGEBYSCORE', POLLED, '-inf', us(E.now - age), 'WITHSCORES', 'LIMIT', 0, 1)
if reclaimable[1] then
  ask = seed('token')
  if ask then return ask end
  entry = call('XCLAIM', STREAM, GROUP, CONSUMER, 0, reclaimable[1])[1]
else
  if skip() then return {'AGAIN'} end
  ask = E.waiting > 0 and seed('token')
  if ask then return ask end
  local read = call('XREADGROUP', 'GROUP', GROUP, CONSUMER, 'COUNT', 1, 'STREAMS', STREAM, '>')
  entry = read and read[1] and read[1][2][1]
  if entry then call('HSET', ENV, 'delivered', string.match(entry[1], '^%d+'), 'waiting', us(E.waiting - 1)) end
end
if not entry then
  if E.frozen then return {'NONE', -1, -1, default_age, E.auto and 1 or 0} end
  local lease_end = tonumber(call('ZRANGE', LEASES, 0, 0, 'WITHSCORES')[2])
  local handed_out = tonumber(call('ZRANGE', POLLED, 0, 0, 'WITHSCORES')[2])
  return {'NONE', lease_end and lease_end - E.now or -1, handed_out and E.now - handed_out or -1, default_age, 0}
end
local id = entry[2][2]
call('ZADD', POLLED, us(E.now), entry[1])
call('SADD', TOKENS_ .. id, token_sha)
touch()
if reclaimable[1] then
  note('reclaimed', id, E.now, '', '', 'd', string.sub(token_sha, 1, 8), 'a', us(E.now - tonumber(reclaimable[2])))
else
  note('offered', id, E.now, '', '', 'd', string.sub(token_sha, 1, 8))
end
return {'WORK', id, call('HGETALL', work(id))}
