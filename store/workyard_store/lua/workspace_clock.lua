-- Change a workspace's clock. Time never goes back.
-- Atomic: two advances at once both count.
-- KEYS[1]: workspace. Arguments: `op`: real|frozen|auto|advance|reach|jump; `value`, us or nil: for frozen the instant; for
-- advance how far; for reach and jump (used only by the server, in mode auto) the later target instant; `last`: the last instant
-- that a clock may reach, us.
-- Answer: {'OK', now, what an environment copies (`profile`)} | {'BACK', now}: time would go back; reach, jump: the clock is there already, or in another mode | {'FAR', now}.
local v = call('HMGET', STATE, 'shift', 'frozen', 'last', 'auto')
local shift, frozen = tonumber(v[1] or '0'), tonumber(v[2] or '')
local now = math.max(frozen or wall + shift, tonumber(v[3] or '0'))
local to = now
if op == 'advance' then
  to = now + value
elseif value then
  to = value
end
local on_its_own = op == 'reach' or op == 'jump'
if to < now or (on_its_own and to == now) or (op == 'jump' and v[4] ~= '1') then return {'BACK', us(now)} end
if to > last then return {'FAR', us(now)} end
if op == 'frozen' or op == 'auto' or (op ~= 'real' and frozen) then
  call('HSET', STATE, 'frozen', us(to))
else
  call('HSET', STATE, 'frozen', '', 'shift', us(to - wall))
end
if op == 'real' or op == 'frozen' or op == 'auto' then call('HSET', STATE, 'auto', op == 'auto' and '1' or '') end
call('HSET', STATE, 'last', us(to))
call('HSET', STATE, 'ticked', next_generation())
return {'OK', us(to), profile()}
