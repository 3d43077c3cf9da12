-- Claim or extend a lease, if the caller's expectation matches.
-- Atomic: of two workers with the same expectation one wins.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] work id; [4] what is expected: 'ANY' (omitted), 'NONE'
-- (NO_HEARTBEAT), an instant in us, or 'OTHER' (a text that no heartbeat renders as); [5] ttl in s or '' for the
-- workspace's; [6] the server's default ttl, s.
-- Answer: {'OK', stored heartbeat us, ttl s}: extended | {'ENDED', state, stored heartbeat or ''}: stopping or stopped,
-- nothing compared, nothing written | {'MISMATCH', state, stored heartbeat or '', ttl last applied or ''}, or 'LOST' if the
-- token is of an earlier life
-- | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
local id, expected = ARGV[3], ARGV[4]
-- Whoever holds a token of an earlier life has lost the lease: that is what it is told, whatever it expects.
local lost = refusal == 'DEAD' and E.item == id
if refusal and not lost then return {refusal} end
local v = call('HMGET', work(id), 'state', 'beat', 'ever', 'ttl', 'seq')
local state, beat = v[1], v[2]
if not state then return {'MISSING'} end
if not lost and (state == 'stopping' or state == 'stopped') then
  note('beat_ended', id, E.now, state, '', 'x', expected, 's', beat or '')
  return {'ENDED', state, beat or ''}
end
local matches = expected == 'ANY' or expected == (beat or 'NONE')
if lost or state == 'queued' or not matches then
  note('beat_refused', id, E.now, state, '', 'x', expected, 's', beat or '', 'dead', lost and '1' or '0')
  return {lost and 'LOST' or 'MISMATCH', state, beat or '', v[4] or ''}
end
-- Strictly later than every heartbeat of any life of this item, so a stale value never matches.
local stamp = us(math.max(E.now, (tonumber(v[3]) or 0) + 1))
local ttl = tonumber(ARGV[5]) or E.ttl or tonumber(ARGV[6])
call('ZADD', LEASES, us(E.now + ttl * 1000000), lease_member(v[5], id))
if state == 'starting' then
  call('HSET', work(id), 'state', 'active', 'started', us(E.now))
end
call('HSET', work(id), 'beat', stamp, 'ever', stamp, 'ttl', us(ttl))
touch()
note('beat', id, E.now, state, 'active', 'x', expected, 's', beat or '', 'h', stamp, 'l', us(ttl))
return {'OK', stamp, us(ttl)}
