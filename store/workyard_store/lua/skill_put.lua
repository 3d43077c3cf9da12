-- Keep a skill, or a new version of it. The same archive again is no new version.
-- Atomic: a skill is never seen without the version that its record names, nor two uploads under one version.
-- KEYS[1] workspace. ARGV[1] wall us; [2] skill id; [3] name; [4] what else its record says, as JSON; [5] description;
-- [6] archive, base64; [7] its SHA-256; [8] most skills; [9] most versions of one: beyond that the oldest goes.
-- Answer: {'OK', record} | {'FULL'} | {'NAME', the name that the skill has}. A record is
-- `<sequence> <created> <updated> <versions, newest first> <name> <SHA-256> <JSON>`.
local id, name, rest, sha = ARGV[2], ARGV[3], ARGV[4], ARGV[7]
local skills, described, archives = BASE .. 'skills', BASE .. 'skill_versions', BASE .. 'skill_archives'
local stored = call('HGET', skills, id)
local number, created, updated, versions, was, last_sha, last_rest
if stored then
  number, created, updated, versions, was, last_sha, last_rest =
    string.match(stored, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if was ~= name then return {'NAME', was} end
  if sha == last_sha and rest == last_rest then return {'OK', stored} end
else
  if #call('HKEYS', skills) >= tonumber(ARGV[8]) then return {'FULL'} end
end
local now = instant()
local kept = {}
for version in string.gmatch(versions or '', '[^,]+') do kept[#kept + 1] = version end
if sha ~= last_sha then
  -- A version is named by its instant: each of a skill by another.
  if kept[1] then now = math.max(now, tonumber(kept[1]) + 1) end
  table.insert(kept, 1, us(now))
  while #kept > tonumber(ARGV[9]) do
    local gone = id .. ' ' .. table.remove(kept)
    call('HDEL', described, gone)
    call('HDEL', archives, gone)
  end
  call('HSET', described, id .. ' ' .. kept[1], ARGV[5])
  call('HSET', archives, id .. ' ' .. kept[1], ARGV[6])
end
number = number or us(call('HINCRBY', STATE, 'number', 1))
local record = table.concat({number, created or us(now), us(now), table.concat(kept, ','), name, sha, rest}, ' ')
call('HSET', skills, id, record)
return {'OK', record}
