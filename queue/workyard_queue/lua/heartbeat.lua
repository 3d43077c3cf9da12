-- Claim or extend a lease, if the caller's expectation matches.
-- Atomic: of two workers with the same expectation one wins.
-- KEYS[1]: environment. Arguments: `work_id`; `expected`: 'ANY' (omitted), 'NONE' (NO_HEARTBEAT), an instant in us, or 'OTHER'
-- (a text that no heartbeat renders as); `ttl_s`, or nil for the workspace's; `default_ttl_s`: the server's.
-- Answer: {'OK', stored heartbeat us, ttl s}: extended | {'ENDED', state, stored heartbeat or ''}: stopping or stopped,
-- nothing compared, nothing written | {'MISMATCH', state, stored heartbeat or '', ttl last applied or ''}, or 'LOST' if the
-- token is of an earlier life
-- | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
-- A caller with a token of an earlier life has lost the lease: answer that, whatever it expects.
local lost = refusal == 'DEAD' and token_work == work_id
if refusal and not lost then return {refusal} end
local v = call('HMGET', work(work_id), 'state', 'beat', 'ever', 'ttl', 'seq')
local state, beat = v[1], v[2]
if not state then return {'MISSING'} end
if not lost and (state == 'stopping' or state == 'stopped') then
  note('beat_ended', work_id, E.now, state, '', 'x', expected, 's', beat or '')
  return {'ENDED', state, beat or ''}
end
local matches = expected == 'ANY' or expected == (beat or 'NONE')
if lost or state == 'queued' or not matches then
  note('beat_refused', work_id, E.now, state, '', 'x', expected, 's', beat or '', 'dead', lost and '1' or '0')
  return {lost and 'LOST' or 'MISMATCH', state, beat or '', v[4] or ''}
end
-- Strictly later than every heartbeat of any life of this item, so a stale value never matches.
local stamp = us(math.max(E.now, (tonumber(v[3]) or 0) + 1))
local ttl = ttl_s or E.ttl or default_ttl_s
call('ZADD', LEASES, us(E.now + ttl * 1000000), lease_member(v[5], work_id))
if state == 'starting' then
  call('HSET', work(work_id), 'state', 'active', 'started', us(E.now))
end
call('HSET', work(work_id), 'beat', stamp, 'ever', stamp, 'ttl', us(ttl))
touch()
note('beat', work_id, E.now, state, 'active', 'x', expected, 's', beat or '', 'h', stamp, 'l', us(ttl))
return {'OK', stamp, us(ttl)}
