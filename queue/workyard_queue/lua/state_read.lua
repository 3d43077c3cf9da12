-- Read a part of an environment as it is stored, for the document of its workspace's state. Lapses no lease: leases that
-- have ended meanwhile lapse at the next access, before a restore or after it.
-- Atomic: a part is of one instant. If one part is not enough, the mark shows whether anything changed in between.
-- KEYS[1]: environment. Arguments: `mark`: a text of the reader's own; `section` to go on with: record|work|queue|sessions|
-- events|life; `place` in it after which to go on, or '0'; `left`: about how many rows at most.
-- Answer: {'OK', section to go on with or '' if this was all, place, {row, …}} | {'CHANGED'}: start again | {'GONE'}
-- | {'FOREIGN'}. Each row begins with its kind:
--   record    fields of the environment, of its keys, its idempotency keys, its pollers (worker, us, …)
--   work      id, fields, digests of its tokens, end of its lease us or ''
--   queue     work id, date us, hand-out us or '': in the order of the queue
--   session   id, fields, instant us at which its agent acts or ''
--   event     session id, content (JSON), date us
--   life      entry id, fields
local refusal = begin()
if refusal then return {refusal} end
local first = section == 'record'
if not first and call('HGET', ENV, 'whole') ~= mark then return {'CHANGED'} end
local rows = {}

local function instant(score)
  return score and us(tonumber(score)) or ''
end

-- A row counts as one, and once more for each kilobyte.
local function add(size, ...)
  rows[#rows + 1] = {...}
  left = left - 1 - math.floor(size / 1024)
end

local function most()
  return math.max(1, math.min(left, 100))
end

-- Each answers the place after which there may be more of its section, or nil.
local read = {}

function read.record()
  add(0, 'record', call('HGETALL', ENV), call('HGETALL', KEYS_), call('HGETALL', IDEM),
    call('ZRANGE', POLLERS, 0, -1, 'WITHSCORES'))
end

function read.work()
  local part = call('ZRANGEBYSCORE', INDEX, '(' .. place, '+inf', 'WITHSCORES', 'LIMIT', 0, most())
  for i = 1, #part, 2 do
    local id = part[i]
    local lease = call('ZSCORE', LEASES, lease_member(part[i + 1], id))
    add(0, 'work', id, call('HGETALL', work(id)), call('SMEMBERS', TOKENS_ .. id), instant(lease))
  end
  return part[#part]
end

function read.queue()
  local part = call('XRANGE', STREAM, place == '0' and '-' or '(' .. place, '+', 'COUNT', most())
  for _, entry in ipairs(part) do
    if is_live(entry) then
      add(0, 'queue', entry[2][2], entry[2][4], instant(call('ZSCORE', POLLED, entry[1])))
    end
  end
  return #part > 0 and part[#part][1] or nil
end

function read.sessions()
  local part = call('ZRANGEBYSCORE', SESSIONS, '(' .. place, '+inf', 'WITHSCORES', 'LIMIT', 0, most())
  for i = 1, #part, 2 do
    local fields = call('HGETALL', SESSION_ .. part[i])
    -- A place without a record is that of a session being made or removed.
    if #fields > 0 then add(0, 'session', part[i], fields, instant(call('ZSCORE', DUE, part[i]))) end
  end
  return part[#part]
end

-- The place: a session's place, a blank, and the entry.
function read.events()
  local score, entry = string.match(place, '^(%S+) ?(.*)$')
  local session = call('ZRANGEBYSCORE', SESSIONS, (entry == '' and '(' or '') .. score, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not session[1] then return nil end
  local part = call('XRANGE', EVENTS_ .. session[1], entry == '' and '-' or '(' .. entry, '+', 'COUNT', most())
  for _, event in ipairs(part) do
    add(#event[2][2], 'event', session[1], event[2][2], event[2][4])
  end
  return #part > 0 and session[2] .. ' ' .. part[#part][1] or session[2]
end

function read.life()
  local part = call('XRANGE', LIFE, place == '0' and '-' or '(' .. place, '+', 'COUNT', most())
  for _, entry in ipairs(part) do add(0, 'life', entry[1], entry[2][2]) end
  return #part > 0 and part[#part][1] or nil
end

local NEXT = {record = 'work', work = 'queue', queue = 'sessions', sessions = 'events', events = 'life'}
while section and left > 0 do
  local reached = read[section]()
  if reached then
    place = reached
  else
    section, place = NEXT[section], '0'
  end
end
if section then
  if first then call('HSET', ENV, 'whole', mark) end
  return {'OK', section, place, rows}
end
if not first then call('HDEL', ENV, 'whole') end
return {'OK', '', '', rows}
