-- Remove a part of a deleted environment's keys, and name the next part; remove the rest when there is no next part.
-- Atomic: an item or session is unlinked together with its place in the index, so a crash between two parts loses none.
-- KEYS[1]: environment. Arguments: `most`: how many items or sessions at most to name; `named`: rows of `work_id` and
-- `session_id` ('' if there is none, or if it has no place, because it was never looked up), which an earlier answer
-- named.
-- Answer: {'LIVE', 0}: the environment is not deleted, nothing was changed | {'MORE', keys removed, work id, session id, …}: what to
-- remove next | {'DONE', keys removed}.
if call('EXISTS', ENV) == 1 then return {'LIVE', 0} end
-- First of all, so that a concurrent restore of it stops writing.
local removed = call('UNLINK', RESTORE)
-- The last member takes the index itself with it, which counts as a removed key too.
local indexes = call('EXISTS', INDEX, SESSIONS, DUE)
for _, row in ipairs(named) do
  local work, session, keys = row.work_id, row.session_id, {}
  for _, key in ipairs(PURGED_PER_WORK) do keys[#keys + 1] = key .. work end
  for _, key in ipairs(PURGED_PER_SESSION) do keys[#keys + 1] = key .. session end
  removed = removed + call('UNLINK', unpack(keys))
  call('ZREM', INDEX, work)
  call('ZREM', SESSIONS, session)
  call('ZREM', DUE, session)
end
removed = removed + indexes - call('EXISTS', INDEX, SESSIONS, DUE)
local answer = {'MORE', removed}
for _, work in ipairs(call('ZRANGE', INDEX, 0, most - 1)) do
  local item = call('HMGET', WORK_ .. work, 'session', 'gone')
  local has_been = item[1] and (item[2] or call('ZSCORE', SESSIONS, item[1]))
  answer[#answer + 1] = work
  answer[#answer + 1] = has_been and item[1] or ''
end
if #answer == 2 then
  for _, session in ipairs(call('ZRANGE', SESSIONS, 0, most - 1)) do
    answer[#answer + 1] = ''
    answer[#answer + 1] = session
  end
end
if #answer > 2 then return answer end
return {'DONE', removed + call('UNLINK', unpack(PURGED))}
