-- Enqueue a batch of work items, one per session, or pass a message to the session of an item that exists.
-- Atomic: an item, its place in the index and its entry appear together. An item has a session from then on (`_session.lua`).
-- KEYS[1]: environment. Arguments: `message`: whether an existing item gets a message, else it is only read;
-- `idempotency_key`, or ''; `fingerprint` of the request that the key stands for; `most_items` in the environment; `number`: how
-- many this call is to make at least, with those of later batches; `metadata`: rows of `key` and `value`; `items`: rows of
-- `work_id` and `session_id`.
-- Answer: {'OK', item, item, …} (each every field of the item) | {'CLOUD'} | {'ARCHIVED'} | {'REUSED'}: the key stands
-- for another request | {'FULL'}: nothing was made | {'SEED', seed, place} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if E.kind == 'cloud' then return {'CLOUD'} end
if E.archived then
  -- Items that exist may still be read, and re-enqueued by a message.
  for _, item in ipairs(items) do
    if call('EXISTS', work(item.work_id)) == 0 then return {'ARCHIVED'} end
  end
end
if is_full(number, most_items) then
  -- Those that exist already need no room.
  local new = number - #items
  for _, item in ipairs(items) do
    if call('EXISTS', work(item.work_id)) == 0 then new = new + 1 end
  end
  if new > 0 and is_full(new, most_items) then return {'FULL'} end
end
-- Made-up sessions, except those that follow from an idempotency key.
local ask = not message and idempotency_key == '' and seed('work')
if ask then return ask end
if idempotency_key ~= '' then
  local known = call('HGET', IDEM, idempotency_key)
  if known and known ~= fingerprint then return {'REUSED'} end
  -- The message was passed on when the key was first seen.
  if known then message = false end
  call('HSET', IDEM, idempotency_key, fingerprint)
end
local answer = {'OK'}
local fields = {}
for _, pair in ipairs(metadata) do
  fields[#fields + 1] = 'm:' .. pair.key
  fields[#fields + 1] = pair.value
end
local entered = false
for _, item in ipairs(items) do
  local id = item.work_id
  local state = call('HGET', work(id), 'state')
  if not state then
    create(id, item.session_id, fields)
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
