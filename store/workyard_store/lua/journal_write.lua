-- Put entries behind the last ones of the journal, in batches, and drop the batches that hold none of those it keeps.
-- Atomic: a batch has the number of its last entry, which follows from how many there ever were.
-- KEYS[1]: workspace. Arguments: `since`: when the first of them came, wall us; `keeps`: how many entries are kept; `dropped`:
-- how many came before these and were dropped unwritten, with all that is older; `batches`: rows of `entries`, how many it
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
