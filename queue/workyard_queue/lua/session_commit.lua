-- Store what an agent made of the events it had not seen, unless the session has changed since they were read.
-- Atomic: the agent's events, its state and the session's status belong together, and two servers that let the same agent
-- act do not both succeed.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] session id; [4] work id; [5] the version that was read;
-- [6] the last entry (us) that was read; [7] agent's state (JSON); [8] status; [9] instant us to act again, or '';
-- [10] '1' in mid-turn: somebody has to serve the session, even without another message; [11] script (JSON) and [12] its
-- source, or '' if the session has them; then each new event as JSON.
-- Answer: {'OK'} | {'STALE'}: read it again | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local id, work_id = ARGV[3], ARGV[4]
local v = call('HMGET', session(id), 'version', 'entry')
if v[1] ~= ARGV[5] then return {'STALE'} end
append(id, 13)
become(id, ARGV[8])
-- What came behind the part that was read is for the next turn; a terminated session has none.
local over = ARGV[8] == 'terminated'
local behind = v[2] ~= ARGV[6] and not over
if ARGV[11] ~= '' then call('HSET', session(id), 'script', ARGV[11], 'source', ARGV[12]) end
call('HSET', session(id), 'state', ARGV[7], 'busy', ARGV[10], 'seen', behind and ARGV[6] or call('HGET', session(id), 'entry'))
if behind then
  call('ZADD', DUE, us(E.now), id)
elseif ARGV[9] ~= '' and not over then
  call('ZADD', DUE, ARGV[9], id)
else
  call('ZREM', DUE, id)
end
if over then
  release(work_id)
elseif ARGV[10] ~= '1' and not behind then
  call('HDEL', work(work_id), 'message')
end
changed(id)
return {'OK'}
