-- Put entries behind the last ones of the journal, as one batch, and drop the batches that hold none of those it keeps.
-- Atomic: a batch has the number of its last entry, which follows from how many there ever were.
-- KEYS[1] workspace. ARGV[1] wall us; [2] how many entries are kept; [3] how many these are; [4] their text. Answer: {'OK'}.
local REQUESTS, JOURNAL = BASE .. 'requests', BASE .. 'journal'
redis.call('HSETNX', JOURNAL, 'since', ARGV[1])
local total = redis.call('HINCRBY', JOURNAL, 'total', ARGV[3])
local oldest = math.max(total - tonumber(ARGV[2]) + 1, 1)
redis.call('XADD', REQUESTS, 'MINID', oldest, total .. '-0', 'n', ARGV[3], 'e', ARGV[4])
return {'OK'}
