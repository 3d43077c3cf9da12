-- Change a workspace's clock. Time never goes back.
-- Atomic: two advances at once both count.
-- KEYS[1] workspace. ARGV[1] wall us; [2] real|frozen|advance; [3] frozen: instant us or ''; advance: us;
-- [4] the last instant a clock may reach, us.
-- Answer: {'OK', now, shift, frozen, ttl, startup, reclaim, generation, faults, seed} | {'BACK', now} | {'FAR', now}.
local wall, op = tonumber(ARGV[1]), ARGV[2]
local v = call('HMGET', STATE, 'shift', 'frozen', 'last')
local shift, frozen = tonumber(v[1] or '0'), tonumber(v[2] or '')
local now = math.max(frozen or wall + shift, tonumber(v[3] or '0'))
local to = now
if op == 'advance' then
  to = now + tonumber(ARGV[3])
elseif op == 'frozen' and ARGV[3] ~= '' then
  to = tonumber(ARGV[3])
end
if to < now then return {'BACK', us(now)} end
if to > tonumber(ARGV[4]) then return {'FAR', us(now)} end
if op == 'frozen' or (op == 'advance' and frozen) then
  call('HSET', STATE, 'frozen', us(to))
else
  call('HSET', STATE, 'frozen', '', 'shift', us(to - wall))
end
call('HSET', STATE, 'last', us(to))
next_generation()
local answer = profile()
table.insert(answer, 1, us(to))
table.insert(answer, 1, 'OK')
return answer
