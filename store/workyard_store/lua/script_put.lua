-- Store a script under a name.
-- Atomic: two new names cannot both take the last free place.
-- KEYS[1]: workspace. Arguments: `name`; `script`; `most` scripts.
-- Answer: {'OK'} | {'FULL'}.
local scripts = BASE .. 'scripts'
if call('HEXISTS', scripts, name) == 0 and #call('HKEYS', scripts) >= most then return {'FULL'} end
call('HSET', scripts, name, script)
return {'OK'}
