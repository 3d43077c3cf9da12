-- Remove a skill with all its versions.
-- Atomic: no version is left of a skill that is gone.
-- KEYS[1] workspace. ARGV[1] wall us; [2] skill id.
-- Answer: 1, or 0 if there is no such skill.
local stored = call('HGET', BASE .. 'skills', ARGV[2])
if not stored then return 0 end
for version in string.gmatch(string.match(stored, '^%S+ %S+ %S+ (%S+)'), '[^,]+') do
  call('HDEL', BASE .. 'skill_versions', ARGV[2] .. ' ' .. version)
  call('HDEL', BASE .. 'skill_archives', ARGV[2] .. ' ' .. version)
end
return call('HDEL', BASE .. 'skills', ARGV[2])
