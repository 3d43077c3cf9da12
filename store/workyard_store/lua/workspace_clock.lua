-- Change a workspace's clock. Time never goes back.
-- Atomic: two advances at once both count.
-- KEYS[1] workspace. ARGV[1] wall us; [2] real|frozen|auto|advance|reach|jump; [3] frozen: instant us or ''; advance: us;
-- reach, jump (the server's own, in mode auto only): the later instant to be at, us; [4] the last instant a clock may
-- reach, us.
-- Answer: {'OK', now, what an environment copies (`profile`)} | {'BACK', now}: time would go back; reach, jump: it is that late already, or the mode is another | {'FAR', now}.
local wall, op = tonumber(ARGV[1]), ARGV[2]
local v = call('HMGET', STATE, 'shift', 'frozen', 'last', 'auto')
local shift, frozen = tonumber(v[1] or '0'), tonumber(v[2] or '')
local now = math.max(frozen or wall + shift, tonumber(v[3] or '0'))
local to = now
if op == 'advance' then
  to = now + tonumber(ARGV[3])
elseif ARGV[3] ~= '' then
  to = tonumber(ARGV[3])
end
local on_its_own = op == 'reach' or op == 'jump'
if to < now or (on_its_own and to == now) or (op == 'jump' and v[4] ~= '1') then return {'BACK', us(now)} end
if to > tonumber(ARGV[4]) then return {'FAR', us(now)} end
if op == 'frozen' or op == 'auto' or (op ~= 'real' and frozen) then
  call('HSET', STATE, 'frozen', us(to))
else
  call('HSET', STATE, 'frozen', '', 'shift', us(to - wall))
end
if op == 'real' or op == 'frozen' or op == 'auto' then call('HSET', STATE, 'auto', op == 'auto' and '1' or '') end
call('HSET', STATE, 'last', us(to))
call('HSET', STATE, 'ticked', next_generation())
local answer = profile()
table.insert(answer, 1, us(to))
table.insert(answer, 1, 'OK')
return answer
