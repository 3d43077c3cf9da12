-- Shared rules of the work queue, after the head `_environment.lua`. Each rule of the state machine that more than one
-- script needs stands here once.
--
-- A work item is a hash: seq, session, state, created, entry (its live stream entry or ''),
-- again ('1' once re-queued), acked, started, beat, ever (latest heartbeat of any life), ttl, stop, stopped, message
-- ('1': a message waits that no ack has seen), ended (how often it became stopped), revived (how often it entered the
-- queue after that), trace (traceparent of the call that made it, or gave its session the last message, if any), gone ('1': its session was deleted; '0': and has a successor), and one field `m:<key>` per metadata key. Instants are microseconds.
--
-- A queued item has exactly one live entry: the one its `entry` names. Entry ids are `<microseconds>-0`, strictly
-- rising and of one length, so that they sort as text; the date of an entry is its field `t`.
-- Delivered and live: in the group's pending list and in POLLED. Delivered and settled: acknowledged (XACK).
-- Never delivered and live: counted in `waiting`, the depth. Never delivered but no longer live: a tombstone, counted in
-- `tombs`. The group's own lag is not used: Redis 7.0 loses it at a restart, and XDEL makes it unknown.
local GROUP, CONSUMER = 'workers', 'workers'
local BATCH = 100
-- Tombstones one script steps over: some milliseconds.
local SKIP_BATCH = 500

-- Fields of an item that stages of its life set. A re-queue removes them.
local STAGE_FIELDS = {'acked', 'started', 'beat', 'ttl', 'stop', 'stopped'}

local function work(id)
  return WORK_ .. id
end

local function lease_member(seq, id)
  return string.format('%016.0f:%s', tonumber(seq), id)
end

-- Drop the part of the stream that no pending and no undelivered entry needs.
local function trim()
  local pending = call('XPENDING', STREAM, GROUP)
  call('XTRIM', STREAM, 'MINID', pending[1] > 0 and pending[2] or us(E.delivered + 1) .. '-0')
end

local function is_live(entry)
  return call('HGET', work(entry[2][2]), 'entry') == entry[1]
end

-- Step over leading tombstones, so that the next undelivered entry is a live one: over all at once where nothing else
-- waits, else over a bounded number. Answer true if some may be left. XGROUP SETID moves the group past them, because
-- reading the entries would double the cost of inspecting them.
local function skip()
  if E.tombs == 0 then return false end
  local dead, last = 0, us(E.delivered) .. '-0'
  if E.waiting == 0 then
    dead, last = E.tombs, us(E.entry) .. '-0'
  else
    -- Most often the first or second entry is live: inspect few at first, and more the longer the run is.
    local look, met = 2, false
    while not met and dead < SKIP_BATCH do
      local ahead = call('XRANGE', STREAM, '(' .. last, '+', 'COUNT', look)
      met = #ahead == 0
      for _, entry in ipairs(ahead) do
        met = is_live(entry)
        if met then break end
        dead, last = dead + 1, entry[1]
      end
      look = math.min(look * 2, SKIP_BATCH - dead)
    end
  end
  if dead == 0 then return false end
  call('XGROUP', 'SETID', STREAM, GROUP, last)
  E.delivered = tonumber(string.match(last, '^%d+'))
  E.tombs = E.tombs - dead
  call('HSET', ENV, 'delivered', us(E.delivered), 'tombs', us(E.tombs))
  trim()
  return dead == SKIP_BATCH
end

-- Put an item into the queue with a new entry dated `date`. Tokens minted for its last life die.
local function enter(id, date)
  E.entry = math.max(date, E.entry + 1)
  local entry = us(E.entry) .. '-0'
  call('XADD', STREAM, entry, 'w', id, 't', us(date))
  E.waiting = E.waiting + 1
  call('HSET', ENV, 'entry', us(E.entry), 'waiting', us(E.waiting))
  call('HSET', work(id), 'state', 'queued', 'entry', entry)
end

-- Return whether the environment has no room for this many new items.
local function is_full(number, most)
  return call('ZCARD', INDEX) + number > most
end

-- Make a new item and put it into the queue. `metadata`: fields `m:<key>` and their values, in turn.
local function create(id, session_id, metadata)
  E.seq = call('HINCRBY', ENV, 'seq', 1)
  call('HSET', work(id), 'seq', us(E.seq), 'session', session_id, 'created', us(E.now), unpack(metadata))
  if trace ~= '' then call('HSET', work(id), 'trace', trace) end
  call('ZADD', INDEX, us(E.seq), id)
  enter(id, E.now)
  note('enqueued', id, E.now, '', 'queued')
end

-- Put an item that has been in the queue before back into it.
local function reenter(id, date)
  enter(id, date)
  call('HSET', work(id), 'again', '1')
  call('HDEL', work(id), unpack(STAGE_FIELDS))
  call('DEL', TOKENS_ .. id)
  wake()
end

-- Put a stopped item back into the queue: its session got a message.
local function revive(id, date)
  reenter(id, date)
  call('HINCRBY', work(id), 'revived', 1)
  note('enqueued', id, date, 'stopped', 'queued', 'm', '1')
end

-- Pass a message on to an item: a stopped one re-enters the queue, any other will when it stops, unless the message is
-- served before.
local function message_to(id)
  call('HSET', work(id), 'message', '1', 'trace', trace)
  if call('HGET', work(id), 'state') == 'stopped' then revive(id, E.now) end
end

-- Take an item's live entry out of the queue.
local function leave(id, entry)
  call('HSET', work(id), 'entry', '')
  if call('ZREM', POLLED, entry) == 1 then
    call('XACK', STREAM, GROUP, entry)
    trim()
  else
    E.tombs, E.waiting = E.tombs + 1, E.waiting - 1
    call('HSET', ENV, 'tombs', us(E.tombs), 'waiting', us(E.waiting))
    -- Immediately, so that a poll does not have to step over all entries stopped before it.
    skip()
  end
end

-- Make an item stopped at an instant. Answer what it is then: if a message waits, it re-enters the queue in this same
-- step, so the next read shows it queued.
local function finish(id, seq, date)
  call('ZREM', LEASES, lease_member(seq, id))
  call('HSET', work(id), 'state', 'stopped', 'stopped', us(date))
  call('HINCRBY', work(id), 'ended', 1)
  local stopped = call('HGETALL', work(id))
  if call('HGET', work(id), 'message') then revive(id, date) end
  return stopped
end

-- Stop an item immediately, unless it is stopped. `force`: '1' or '0' from a worker's request, or the cause if there was no
-- request. Answer the item as it was then.
local function stop_now(id, force)
  local v = call('HMGET', work(id), 'state', 'entry', 'seq')
  call('HSETNX', work(id), 'stop', us(E.now))
  if v[1] == 'queued' then leave(id, v[2]) end
  touch()
  note('stop_asked', id, E.now, v[1], 'stopped', 'force', force)
  return finish(id, v[3], E.now)
end

-- End the lease of an item at an instant: it re-enters the queue, or is stopped if it was to stop.
local function lapse(id, member, date)
  call('ZREM', LEASES, member)
  local was = call('HGET', work(id), 'state')
  note('lapsed', id, date, was, was == 'stopping' and 'stopped' or 'queued')
  if was == 'stopping' then
    finish(id, string.sub(member, 1, 16), date)
  else
    reenter(id, date)
  end
end

-- Lapse the leases that the clock has ended, in the order of their ends, a bounded number at a time.
-- Answer true if some may be left: the script then answers AGAIN and is called again.
local function settle()
  local due = call('ZRANGEBYSCORE', LEASES, '-inf', us(E.now), 'WITHSCORES', 'LIMIT', 0, BATCH)
  for i = 1, #due, 2 do
    lapse(string.sub(due[i], 18), due[i], tonumber(due[i + 1]))
  end
  if #due > 0 then touch() end
  return #due == 2 * BATCH
end

-- begin() and settle(). Answer a word that ends the script, or nil. DEAD: the caller's sessions token is of an earlier life
-- of its item, or was never issued.
local function open()
  local refusal = begin()
  if refusal then return refusal end
  if settle() then return 'AGAIN' end
  if token_work ~= '' and call('SISMEMBER', TOKENS_ .. token_work, token_digest) == 0 then return 'DEAD' end
end

-- depth: never delivered and live; pending: delivered and not settled; and the oldest entry that is pending.
local function counts()
  local pending = call('XPENDING', STREAM, GROUP)
  return E.waiting, pending[1], pending[2]
end

-- The date of the oldest live entry, or nil; of what counts() has answered.
local function oldest_date(depth, pending, first)
  local oldest
  -- Entries are delivered in stream order, so a pending entry is older than any waiting one.
  if pending > 0 then
    oldest = call('XRANGE', STREAM, first, first)[1]
  elseif depth > 0 then
    oldest = call('XRANGE', STREAM, us(E.delivered + 1) .. '-0', '+', 'COUNT', 1)[1]
  end
  return oldest and oldest[2][4]
end

-- How many workers have polled in the last 30 s.
local function workers_polling()
  return call('ZCOUNT', POLLERS, '(' .. us(E.now - 30000000), '+inf')
end
