-- Keep a script under a name.
-- Atomic: no two new names are both the last that is allowed.
-- KEYS[1] workspace. ARGV[1] unused; [2] name; [3] script; [4] most scripts.
-- Answer: OK | FULL.
local scripts = BASE .. 'scripts'
if call('HEXISTS', scripts, ARGV[2]) == 0 and #call('HKEYS', scripts) >= tonumber(ARGV[4]) then return 'FULL' end
call('HSET', scripts, ARGV[2], ARGV[3])
return 'OK'
