-- Give a new session its place in its workspace, before its record exists: lists skip a place without a record.
-- Atomic: no two sessions share a sequence number.
-- KEYS[1]: workspace. Arguments: `session_id`; `environment_id`.
-- Answer: sequence.
local number = call('HINCRBY', STATE, 'sessions', 1)
call('ZADD', BASE .. 'sessions', number, session_id .. ' ' .. environment_id)
return number
