-- Take the place of a deleted environment from its workspace, unless it has become that of a new one of the same id.
-- Atomic: a new one gets another sequence, and none is given between the look and the removal.
-- KEYS[1] workspace. ARGV[1] environment id; [2] its sequence, or '' where it had no place.
-- Answer: {1} if there was something to remove, else {0}.
local sequence = call('ZSCORE', ENVS, ARGV[1])
if sequence and us(tonumber(sequence)) ~= ARGV[2] then return {0} end
return {math.max(call('ZREM', ENVS, ARGV[1]), call('ZREM', LIVE, ARGV[1]))}
