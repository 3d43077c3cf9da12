-- Read batches of the journal, oldest first. Changes nothing.
-- Atomic: the journal's counters and the batches are of one instant.
-- KEYS[1]: workspace. Arguments: `first`: number of the first entry wanted; `count`: how many batches.
-- Answer: {how many entries there ever were, how many of these were dropped unwritten with all before them, how many were
-- cleared, wall us of the first or of the clearing or '', batch...}; a batch: {number of its last entry, how many it has,
-- their text}.
local REQUESTS, JOURNAL = BASE .. 'requests', BASE .. 'journal'
local v = redis.call('HMGET', JOURNAL, 'total', 'gone', 'cleared', 'since')
local reply = {tonumber(v[1] or 0), tonumber(v[2] or 0), tonumber(v[3] or 0), v[4] or ''}
for _, entry in ipairs(redis.call('XRANGE', REQUESTS, first .. '-0', '+', 'COUNT', count)) do
  reply[#reply + 1] = {tonumber(string.match(entry[1], '^%d+')), tonumber(entry[2][2]), entry[2][4]}
end
return reply
