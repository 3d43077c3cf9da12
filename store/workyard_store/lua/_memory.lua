-- Head of the scripts about memory stores, after that of workspaces. Argument: `store_id`.
--
-- A store's record is `<sequence> <created> <updated> <archived or -> <JSON>`, a memory's
-- `<store> <created> <updated> <version> <SHA-256> <bytes> <path>`. Answer words they share:
--   STORE     no such memory store
--   MEMORY    the store has no such memory
--   ARCHIVED  the store is archived
--   CHANGED   the stored value is not the expected one
local STORES, SIZES = BASE .. 'stores', BASE .. 'store_sizes'
local MEMORIES, TEXTS, PATHS = BASE .. 'memories', BASE .. 'memory_texts', BASE .. 'memory_paths'
local STORE = store_id

-- Return a memory of the store by its members, or nil.
local function memory(id)
  local stored = call('HGET', MEMORIES, id)
  if not stored then return nil end
  local m = {text = stored}
  m.store, m.created, m.updated, m.version, m.sha, m.size, m.path =
    string.match(stored, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  return m.store == STORE and m or nil
end

local function place(path, id)
  return STORE .. ' ' .. path .. '\n' .. id
end

local function remove(id, m)
  call('HDEL', MEMORIES, id)
  call('HDEL', TEXTS, id)
  call('ZREM', PATHS, place(m.path, id))
  call('HINCRBY', SIZES, STORE .. ' count', -1)
  -- Not `-size`: minus zero is no integer to Redis.
  call('HINCRBY', SIZES, STORE .. ' bytes', us(0 - tonumber(m.size)))
end
