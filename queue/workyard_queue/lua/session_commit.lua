-- Store an agent's reaction to its unseen events, unless the session has changed since they were read.
-- Atomic: the agent's events, its state and the session's status belong together, and two servers that let the same agent
-- act do not both succeed.
-- KEYS[1]: environment. Arguments: `session_id`; `work_id`; `version` that was read; `last_read`: the last entry (us) that was
-- read; `state` of the agent, JSON; `status`; `due_at`: instant us to act again, or ''; `busy`: in mid-turn, so that somebody has
-- to serve the session even without another message; `script` (JSON) and its `source`, or '' if the session has them; `events`:
-- each new one as JSON.
-- Answer: {'OK'} | {'STALE'}: read it again | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local v = call('HMGET', session(session_id), 'version', 'entry')
if v[1] ~= version then return {'STALE'} end
append(session_id, events)
become(session_id, status)
-- Events after the part that was read are for the next turn; a terminated session has no next turn.
local over = status == 'terminated'
local behind = v[2] ~= last_read and not over
if script ~= '' then call('HSET', session(session_id), 'script', script, 'source', source) end
call('HSET', session(session_id), 'state', state, 'busy', busy and '1' or '', 'seen', behind and last_read or call('HGET', session(session_id), 'entry'))
if behind then
  call('ZADD', DUE, us(E.now), session_id)
elseif due_at ~= '' and not over then
  call('ZADD', DUE, due_at, session_id)
else
  call('ZREM', DUE, session_id)
end
if over then
  release(work_id)
elseif not busy and not behind then
  call('HDEL', work(work_id), 'message')
end
changed(session_id)
return {'OK'}
