-- Enqueue a batch of work items, one per session, or pass a message to the session of an item that exists.
-- Atomic: an item, its place in the index and its entry appear together. An item has a session from then on (`_session.lua`).
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] '1' if an existing item gets a message, '0' if it is
-- only read; [4] idempotency key or ''; [5] fingerprint of the request the key stands for; [6] most items
-- in the environment; [7] how many this call is to make at least, with those of later batches; [8] number n of metadata strings; then n
-- strings (key, value, …); then pairs of work id and session id.
-- Answer: {'OK', item, item, …} (each every field of the item) | {'CLOUD'} | {'ARCHIVED'} | {'REUSED'}: the key stands
-- for another request | {'FULL'}: nothing was made | {'SEED', seed, place} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if E.kind == 'cloud' then return {'CLOUD'} end
local first = 9 + tonumber(ARGV[8])
if E.archived then
  -- Items that exist may still be read, and re-enqueued by a message.
  for i = first, #ARGV, 2 do
    if call('EXISTS', work(ARGV[i])) == 0 then return {'ARCHIVED'} end
  end
end
local message = ARGV[3] == '1'
if is_full(ARGV[7], ARGV[6]) then
  -- Those that exist already need no room.
  local new = ARGV[7] - (#ARGV - first + 1) / 2
  for i = first, #ARGV, 2 do
    if call('EXISTS', work(ARGV[i])) == 0 then new = new + 1 end
  end
  if new > 0 and is_full(new, ARGV[6]) then return {'FULL'} end
end
-- Made-up sessions, but for those that follow from an idempotency key.
local ask = not message and ARGV[4] == '' and seed('work')
if ask then return ask end
if ARGV[4] ~= '' then
  local known = call('HGET', IDEM, ARGV[4])
  if known and known ~= ARGV[5] then return {'REUSED'} end
  -- The message was passed on when the key was first seen.
  if known then message = false end
  call('HSET', IDEM, ARGV[4], ARGV[5])
end
local answer = {'OK'}
local metadata = {}
for i = 1, tonumber(ARGV[8]), 2 do
  metadata[#metadata + 1] = 'm:' .. ARGV[8 + i]
  metadata[#metadata + 1] = ARGV[9 + i]
end
local entered = false
for i = first, #ARGV, 2 do
  local id, session = ARGV[i], ARGV[i + 1]
  local state = call('HGET', work(id), 'state')
  if not state then
    create(id, session, metadata)
    entered = true
  elseif message then
    -- If the session was deleted, the item has a new one from now on.
    if call('HEXISTS', work(id), 'gone') == 1 then call('HSET', work(id), 'gone', '0') end
    message_to(id)
  end
  answer[#answer + 1] = call('HGETALL', work(id))
end
if entered then wake() end
touch()
return answer
