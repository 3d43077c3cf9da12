-- Give a session another script, if it has not changed since it was read.
-- Atomic: no turn begins between the look at the session and the change.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] session id; [4] work id; [5] the version that was read;
-- [6] script (JSON); [7] its source; [8] agent's state (JSON).
-- Answer: {'OK'} | {'STALE'}: read it again | {'BUSY'}: in mid-turn | {'TERMINATED'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local id = ARGV[3]
local v = call('HMGET', session(id), 'version', 'status', 'busy')
if v[1] ~= ARGV[5] then return {'STALE'} end
if v[2] == 'terminated' then return {'TERMINATED'} end
if v[3] == '1' then return {'BUSY'} end
call('HSET', session(id), 'script', ARGV[6], 'source', ARGV[7], 'state', ARGV[8])
changed(id)
return {'OK'}
