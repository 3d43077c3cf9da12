-- Store a changed record, if the session has not changed since it was read.
-- Atomic: two updates that read the same version cannot both be stored, so neither loses the other's fields.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] session id; [4] work id; [5] the version that was read; then
-- JSON: [6] agent; [7] title; [8] metadata; [9] the event that tells of the change, if something did change.
-- Answer: {'OK'} | {'STALE'}: read it again | {'SEED', seed, place} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local id = ARGV[3]
local v = call('HMGET', session(id), 'version', 'entry', 'seen')
if v[1] ~= ARGV[5] then return {'STALE'} end
local ask = ARGV[9] and seed('event')
if ask then return ask end
append(id, 9)
-- An agent that has read everything has not to read this.
if v[2] == v[3] then call('HSET', session(id), 'seen', call('HGET', session(id), 'entry')) end
call('HSET', session(id), 'agent', ARGV[6], 'title', ARGV[7], 'metadata', ARGV[8], 'updated', us(E.now))
changed(id)
return {'OK'}
