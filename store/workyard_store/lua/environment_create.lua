-- Create the record of an environment, and its stream and consumer group when it is self-hosted.
-- Atomic: no reader meets a record without its queue.
-- KEYS[1] environment. ARGV[1] wall us; [2] ''; [3] workspace; [4] kind: cloud|self_hosted; [5] name; [6] description;
-- [7] config JSON; [8] metadata JSON; [9] scope; [10] creation sequence in the workspace; [11] clock shift us;
-- [12] frozen instant us or ''; [13] default ttl s or ''; [14] startup lease s or ''; [15] reclaim ms or '';
-- [16] generation of the clock and settings; [17] '1' if the workspace has fault rules; [18] seed of its ids, or '';
-- [19] '1' in the clock's mode auto; [20] generation of the clock.
-- Answer: {'OK', every field of the record} | {'EXISTS'}.
if call('EXISTS', ENV) == 1 then return {'EXISTS'} end
local now = ARGV[12] ~= '' and tonumber(ARGV[12]) or tonumber(ARGV[1]) + tonumber(ARGV[11])
call('HSET', ENV, 'ws', ARGV[3], 'kind', ARGV[4], 'name', ARGV[5], 'description', ARGV[6], 'config', ARGV[7],
  'metadata', ARGV[8], 'scope', ARGV[9], 'number', ARGV[10], 'created', us(now), 'updated', us(now), 'archived', '',
  'version', '1', 'shift', ARGV[11], 'frozen', ARGV[12], 'ttl', ARGV[13], 'startup', ARGV[14], 'reclaim', ARGV[15],
  'generation', ARGV[16], 'faults', ARGV[17], 'seed', ARGV[18], 'auto', ARGV[19], 'ticked', ARGV[20],
  'last', us(now))
if ARGV[4] == 'self_hosted' then
  call('XGROUP', 'CREATE', STREAM, 'workers', '0', 'MKSTREAM')
end
-- Whoever watches its workspace has not marked it yet.
announce('watched', ENV_ID)
return {'OK', call('HGETALL', ENV)}
