-- Append entries to the journal, in batches, and drop the batches that contain no entry it still keeps.
-- Atomic: the id of a batch is the number of its last entry, which depends on how many entries there ever were.
-- KEYS[1]: workspace. Arguments: `since`: when the first of them came, wall us; `keeps`: how many entries are kept; `dropped`:
-- how many entries before these were dropped unwritten, with all older ones; `batches`: rows of `entries`, how many it
-- has, and their `text`.
-- Answer: {'OK'}.
local REQUESTS, JOURNAL = BASE .. 'requests', BASE .. 'journal'
redis.call('HSETNX', JOURNAL, 'since', since)
local total = tonumber(redis.call('HGET', JOURNAL, 'total') or 0)
if dropped > 0 then
  total = total + dropped
  redis.call('HSET', JOURNAL, 'gone', total)
  redis.call('UNLINK', REQUESTS)
end
for _, batch in ipairs(batches) do
  total = total + batch.entries
  local oldest = math.max(total - keeps + 1, 1)
  redis.call('XADD', REQUESTS, 'MINID', oldest, total .. '-0', 'n', batch.entries, 'e', batch.text)
end
redis.call('HSET', JOURNAL, 'total', total)
return {'OK'}
