-- Store a skill, or a new version of it. The same archive again does not make a new version.
-- Atomic: a skill is never seen without the version that its record names, nor two uploads under one version.
-- KEYS[1]: workspace. Arguments: `skill_id`; `name`; `rest` of its record, as JSON; `description`; `archive`, base64; `sha`:
-- SHA-256 of that; `most_skills`; `most_versions` of one: beyond that the oldest goes.
-- Answer: {'OK', record} | {'FULL'} | {'NAME', the name that the skill has}. A record is
-- `<sequence> <created> <updated> <versions, newest first> <name> <SHA-256> <JSON>`.
local id = skill_id
local skills, described, archives = BASE .. 'skills', BASE .. 'skill_versions', BASE .. 'skill_archives'
local stored = call('HGET', skills, id)
local number, created, updated, versions, was, last_sha, last_rest
if stored then
  number, created, updated, versions, was, last_sha, last_rest =
    string.match(stored, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if was ~= name then return {'NAME', was} end
  if sha == last_sha and rest == last_rest then return {'OK', stored} end
else
  if #call('HKEYS', skills) >= most_skills then return {'FULL'} end
end
local now = instant()
local kept = {}
for version in string.gmatch(versions or '', '[^,]+') do kept[#kept + 1] = version end
if sha ~= last_sha then
  -- A version's id is its instant: each version of a skill needs a different one.
  if kept[1] then now = math.max(now, tonumber(kept[1]) + 1) end
  table.insert(kept, 1, us(now))
  while #kept > most_versions do
    local gone = id .. ' ' .. table.remove(kept)
    call('HDEL', described, gone)
    call('HDEL', archives, gone)
  end
  call('HSET', described, id .. ' ' .. kept[1], description)
  call('HSET', archives, id .. ' ' .. kept[1], archive)
end
number = number or us(call('HINCRBY', STATE, 'number', 1))
local record = table.concat({number, created or us(now), us(now), table.concat(kept, ','), name, sha, rest}, ' ')
call('HSET', skills, id, record)
return {'OK', record}
