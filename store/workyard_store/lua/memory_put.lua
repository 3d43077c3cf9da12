-- Create a memory, or change content or path of one. A change to the stored values changes nothing.
-- Atomic: a path is checked and taken in one step, and the content is still the expected one.
-- KEYS[1]: workspace. Arguments: `memory_id`; `action`: create|update; `path`, '' to keep it; `content_sha`: SHA-256 of the
-- content, '' to keep it; `content`; `size`: its bytes; `version_id` of the new version; `expected`: SHA-256 that the stored content
-- must have, '' for any; `most_memories` in a store; `most_bytes` of content in a store; `seeded`: whether the ids follow from the
-- seed.
-- Answer: {'OK', record, content} | {'STORE'} | {'MEMORY'} | {'ARCHIVED'} | {'CHANGED', SHA-256} |
-- {'TAKEN', memory id, its path} | {'FULL', 'count' or 'bytes'} | {'SEED', seed, place}.
local id, sha = memory_id, content_sha
local store = call('HGET', STORES, STORE)
if not store then return {'STORE'} end
if string.match(store, '^%S+ %S+ %S+ (%S+)') ~= '-' then return {'ARCHIVED'} end
local m = memory(id)
if action == 'update' then
  if not m then return {'MEMORY'} end
  if expected ~= '' and expected ~= m.sha then return {'CHANGED', m.sha} end
  if path == '' then path = m.path end
  if sha == '' then sha, size = m.sha, tonumber(m.size) end
  if path == m.path and sha == m.sha then return {'OK', m.text, call('HGET', TEXTS, id)} end
end

-- Return the first other memory at exactly this path, or below it, as {'TAKEN', id, path}, or nil.
local function taken(first, behind)
  for _, member in ipairs(call('ZRANGE', PATHS, '[' .. STORE .. ' ' .. first, '(' .. STORE .. ' ' .. behind, 'BYLEX')) do
    local other, its = string.match(member, '^%S+ (.*)\n(.*)$')
    if its ~= id then return {'TAKEN', its, other} end
  end
end

if not m or path ~= m.path then
  -- A memory above: `/a` for `/a/b`. Then one at the path itself, then any below.
  for at = 2, #path do
    local above = string.sub(path, at, at) == '/' and string.sub(path, 1, at - 1) or at == #path and path
    local found = above and taken(above .. '\n', above .. '\11')
    if found then return found end
  end
  local found = taken(path .. '/', path .. '0')
  if found then return found end
end
local before = m and tonumber(m.size) or 0
local count = tonumber(call('HGET', SIZES, STORE .. ' count') or '0')
local bytes = tonumber(call('HGET', SIZES, STORE .. ' bytes') or '0')
if not m and count >= most_memories then return {'FULL', 'count'} end
if size > before and bytes + size - before > most_bytes then return {'FULL', 'bytes'} end
local ask = seed('memory', seeded)
if ask then return ask end
local now = us(instant())
local record = table.concat({STORE, m and m.created or now, now, version_id, sha, us(size), path}, ' ')
if m then call('ZREM', PATHS, place(m.path, id)) end
call('ZADD', PATHS, 0, place(path, id))
call('HSET', MEMORIES, id, record)
if content_sha ~= '' then call('HSET', TEXTS, id, content) end
if not m then call('HINCRBY', SIZES, STORE .. ' count', 1) end
call('HINCRBY', SIZES, STORE .. ' bytes', us(size - before))
return {'OK', record, call('HGET', TEXTS, id)}
