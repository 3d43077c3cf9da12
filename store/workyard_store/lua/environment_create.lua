-- Create the record of an environment, and its stream and consumer group when it is self-hosted.
-- Atomic: no reader sees a record without its queue.
-- KEYS[1]: environment. Arguments: those of `_profile.lua`, and `workspace`; `kind`: cloud|self_hosted; `name`; `description`;
-- `config` and `metadata`, JSON; `scope`; `number`: creation sequence in the workspace.
-- Answer: {'OK', every field of the record} | {'EXISTS'}.
if call('EXISTS', ENV) == 1 then return {'EXISTS'} end
local now = frozen ~= '' and tonumber(frozen) or wall + tonumber(shift)
call('HSET', ENV, 'ws', workspace, 'kind', kind, 'name', name, 'description', description, 'config', config,
  'metadata', metadata, 'scope', scope, 'number', number, 'created', us(now), 'updated', us(now), 'archived', '',
  'version', '1', 'shift', shift, 'frozen', frozen, 'ttl', ttl, 'startup', startup, 'reclaim', reclaim,
  'generation', generation, 'faults', faults, 'seed', id_seed, 'auto', auto, 'ticked', ticked, 'last', us(now))
if kind == 'self_hosted' then
  call('XGROUP', 'CREATE', STREAM, 'workers', '0', 'MKSTREAM')
end
-- Watchers of its workspace have not marked it yet.
announce('watched', ENV_ID)
return {'OK', call('HGETALL', ENV)}
