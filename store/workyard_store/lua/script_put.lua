-- Keep a script under a name.
-- Atomic: no two new names are both the last that is allowed.
-- KEYS[1]: workspace. Arguments: `name`; `script`; `most` scripts.
-- Answer: {'OK'} | {'FULL'}.
local scripts = BASE .. 'scripts'
if call('HEXISTS', scripts, name) == 0 and #call('HKEYS', scripts) >= most then return {'FULL'} end
call('HSET', scripts, name, script)
return {'OK'}
