-- Copy a workspace's changed clock to one of its environments, and let the change take effect there: leases lapse.
-- Atomic: what is told to have fired is what ended between the last instant of the old clock and the first of the new
-- one; nobody can come in between and renew it.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] generation; [4] clock shift us; [5] frozen instant us or
-- ''; [6] default ttl s or ''; [7] startup lease s or ''; [8] reclaim ms or ''; [9] '1' if the workspace has fault rules;
-- [10] seed of its ids, or ''; [11] '1' in mode auto; [12] generation of the clock; [13] the server's default reclaim age, us;
-- [14] how many timers of each kind at most to tell; [15] '1' if the server moves the clock by itself: then no lease ends by
-- that, and one that began since everybody was seen to wait is as long as it was.
-- Answer: {'OK', 1 if leases are left that have to lapse, else 0: call again; 1 if an agent waits for an instant, else 0;
-- {{kind, instant us, work id or '', session id or '', worker id or ''}, …}} | {'AGAIN'}: nothing is copied yet | {'GONE'}
-- | {'FOREIGN'}.
local refusal = begin()
if refusal then return {refusal} end
if settle() then return {'AGAIN'} end
local from, fired = E.now, {}
if follow(3, true) then
  begin()
  if ARGV[15] == '1' then
    local leases = call('ZRANGE', LEASES, 0, -1, 'WITHSCORES')
    for i = 1, #leases, 2 do call('ZADD', LEASES, us(tonumber(leases[i + 1]) + E.now - from), leases[i]) end
  end
  fired = timers(from, E.now, reclaim_age(ARGV[13]), ARGV[14])
  if ARGV[11] == '1' then call('HSET', ENV, 'stirred', ARGV[1]) end
end
local rest = settle() and 1 or 0
wake(true)
return {'OK', rest, call('EXISTS', DUE), fired}
