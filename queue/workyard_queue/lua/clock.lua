-- Copy a workspace's changed clock to one of its environments, and let the change take effect there: leases lapse.
-- Atomic: the reported timers are those between the last instant of the old clock and the first of the new one; no call
-- can come in between and renew them.
-- KEYS[1]: environment. Arguments: those of `_profile.lua`, and `reclaim_us`: the server's default reclaim age, us; `most`: how
-- many timers of each kind to answer at most; `by_itself`: whether the server moves the clock by itself: then no lease ends by
-- that, and one that began since everybody was seen to wait is as long as it was.
-- Answer: {'OK', 1 if leases are left that have to lapse, else 0: call again; 1 if an agent waits for an instant, else 0;
-- {{kind, instant us, work id or '', session id or '', worker id or ''}, …}} | {'AGAIN'}: nothing is copied yet | {'GONE'}
-- | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
if settle() then return {'AGAIN'} end
local from, fired = E.now, {}
if follow(true) then
  begin()
  if by_itself then
    local leases = call('ZRANGE', LEASES, 0, -1, 'WITHSCORES')
    for i = 1, #leases, 2 do call('ZADD', LEASES, us(tonumber(leases[i + 1]) + E.now - from), leases[i]) end
  end
  fired = timers(from, E.now, reclaim_age(reclaim_us), most)
  if auto == '1' then call('HSET', ENV, 'stirred', us(wall)) end
end
local rest = settle() and 1 or 0
wake(true)
return {'OK', rest, call('EXISTS', DUE), fired}
