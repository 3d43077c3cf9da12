-- Give a new session its place in its workspace, before its record exists: lists skip a place without a record.
-- Atomic: no two sessions share a sequence number.
-- KEYS[1] workspace. ARGV[1] wall us; [2] `<session id> <environment id>`.
-- Answer: sequence.
local number = call('HINCRBY', STATE, 'sessions', 1)
call('ZADD', BASE .. 'sessions', number, ARGV[2])
return us(number)
