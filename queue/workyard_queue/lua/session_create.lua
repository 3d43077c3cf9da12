-- Create a session with its first events; in a self-hosted environment, enqueue its work.
-- Atomic: there is no session without its item, and no item without its session.
-- KEYS[1]: environment. Arguments: `session_id`; `work_id`; `number`: creation sequence in the workspace; as JSON `agent`,
-- `title`, `metadata`, `resources`, `vaults`, and `script` with its `source`, or ''; `most_items` in the environment; `events`:
-- each as JSON.
-- Answer: {'OK'} | {'ARCHIVED'} | {'FULL'} | {'SEED', seed, place} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if E.archived then return {'ARCHIVED'} end
if E.kind == 'self_hosted' and is_full(1, most_items) then return {'FULL'} end
local ask = events[1] and seed('event')
if ask then return ask end
store(session_id, work_id, us(E.now), number, agent, title, metadata, resources, vaults)
count_active(session_id, 1)
if E.kind == 'self_hosted' then
  create(work_id, session_id, {})
  wake()
end
if script ~= '' then call('HSET', session(session_id), 'script', script, 'source', source) end
if events[1] then
  append(session_id, events)
  call('ZADD', DUE, us(E.now), session_id)
  if E.kind == 'self_hosted' then message_to(work_id) end
else
  begin_idle(session_id, us(E.now))
end
touch()
return {'OK'}
