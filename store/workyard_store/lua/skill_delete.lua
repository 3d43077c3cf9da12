-- Remove a skill with all its versions.
-- Atomic: no version of a deleted skill is left.
-- KEYS[1]: workspace. Arguments: `skill_id`.
-- Answer: 1, or 0 if there is no such skill.
local stored = call('HGET', BASE .. 'skills', skill_id)
if not stored then return 0 end
for version in string.gmatch(string.match(stored, '^%S+ %S+ %S+ (%S+)'), '[^,]+') do
  call('HDEL', BASE .. 'skill_versions', skill_id .. ' ' .. version)
  call('HDEL', BASE .. 'skill_archives', skill_id .. ' ' .. version)
end
return call('HDEL', BASE .. 'skills', skill_id)
