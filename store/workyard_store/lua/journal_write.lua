-- Put entries behind the last ones of the journal, in batches, and drop the batches that hold none of those it keeps.
-- Atomic: a batch has the number of its last entry, which follows from how many there ever were.
-- KEYS[1] workspace. ARGV[1] when the first of them came, wall us; [2] how many entries are kept; [3] how many came before
-- these and were dropped unwritten, with all that is older; then of each batch how many entries it has, and their text.
-- Answer: {'OK'}.
local REQUESTS, JOURNAL = BASE .. 'requests', BASE .. 'journal'
redis.call('HSETNX', JOURNAL, 'since', ARGV[1])
local total, dropped = tonumber(redis.call('HGET', JOURNAL, 'total') or 0), tonumber(ARGV[3])
if dropped > 0 then
  total = total + dropped
  redis.call('HSET', JOURNAL, 'gone', total)
  redis.call('UNLINK', REQUESTS)
end
for i = 4, #ARGV, 2 do
  total = total + tonumber(ARGV[i])
  local oldest = math.max(total - tonumber(ARGV[2]) + 1, 1)
  redis.call('XADD', REQUESTS, 'MINID', oldest, total .. '-0', 'n', ARGV[i], 'e', ARGV[i + 1])
end
redis.call('HSET', JOURNAL, 'total', total)
return {'OK'}
