-- Remove the entries of the journal; the numbering continues.
-- Atomic: an entry written concurrently is either counted as removed or kept.
-- KEYS[1]: workspace. Arguments: `keeps`: how many entries are kept.
-- Answer: how many entries were removed.
local REQUESTS, JOURNAL = BASE .. 'requests', BASE .. 'journal'
local v = redis.call('HMGET', JOURNAL, 'total', 'cleared')
if not v[1] then return 0 end
redis.call('UNLINK', REQUESTS)
redis.call('HSET', JOURNAL, 'cleared', v[1], 'since', string.format('%.0f', wall))
return math.min(tonumber(v[1]) - tonumber(v[2] or 0), keeps)
