-- Create a memory, or change content or path of one. A change to what is there already changes nothing.
-- Atomic: a path is looked at and taken in one step, and the content is still the one that was expected.
-- KEYS[1] workspace. ARGV[1] wall us; [2] store id; [3] memory id; [4] 'create' or 'update'; [5] path, '' to keep it;
-- [6] SHA-256 of the content, '' to keep it; [7] content; [8] its bytes; [9] id of the new version; [10] SHA-256 that the
-- stored content must have, '' for any; [11] most memories in a store; [12] most bytes of content in a store; [13] '1' if the ids follow
-- from the seed.
-- Answer: {'OK', record, content} | {'STORE'} | {'MEMORY'} | {'ARCHIVED'} | {'CHANGED', SHA-256} |
-- {'TAKEN', memory id, its path} | {'FULL', 'count' or 'bytes'} | {'SEED', seed, place}.
local id, path, sha, size = ARGV[3], ARGV[5], ARGV[6], tonumber(ARGV[8])
local store = call('HGET', STORES, STORE)
if not store then return {'STORE'} end
if string.match(store, '^%S+ %S+ %S+ (%S+)') ~= '-' then return {'ARCHIVED'} end
local m = memory(id)
if ARGV[4] == 'update' then
  if not m then return {'MEMORY'} end
  if ARGV[10] ~= '' and ARGV[10] ~= m.sha then return {'CHANGED', m.sha} end
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
if not m and count >= tonumber(ARGV[11]) then return {'FULL', 'count'} end
if size > before and bytes + size - before > tonumber(ARGV[12]) then return {'FULL', 'bytes'} end
local ask = seed('memory', ARGV[13])
if ask then return ask end
local now = us(instant())
local record = table.concat({STORE, m and m.created or now, now, ARGV[9], sha, us(size), path}, ' ')
if m then call('ZREM', PATHS, place(m.path, id)) end
call('ZADD', PATHS, 0, place(path, id))
call('HSET', MEMORIES, id, record)
if ARGV[6] ~= '' then call('HSET', TEXTS, id, ARGV[7]) end
if not m then call('HINCRBY', SIZES, STORE .. ' count', 1) end
call('HINCRBY', SIZES, STORE .. ' bytes', us(size - before))
return {'OK', record, call('HGET', TEXTS, id)}
