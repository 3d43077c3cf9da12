-- Remove the place of a deleted environment from its workspace, unless it now belongs to a new one of the same id.
-- Atomic: a new environment gets another sequence, and cannot get it between the check and the removal.
-- KEYS[1]: workspace. Arguments: `environment_id`; `number`: its sequence, or '' where it had no place.
-- Answer: {1} if there was something to remove, else {0}.
local sequence = call('ZSCORE', ENVS, environment_id)
if sequence and us(tonumber(sequence)) ~= number then return {0} end
return {math.max(call('ZREM', ENVS, environment_id), call('ZREM', LIVE, environment_id))}
