-- Append a client's events to a session; its agent has to act on them.
-- Atomic: the events and what they mean for the session's work are one step, so no message is left unserved.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] session id; [4] work id; [5] '1' if an event asks for work;
-- [6] '1' if one is the result of a tool that a worker ran; then each event as JSON.
-- Answer: {'OK', now us} | {'ARCHIVED'} | {'TERMINATED'} | {'CLOUD'}: no worker runs tools there | {'SEED', seed, place} | {'MISSING'} | {'AGAIN'}
-- | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local id, work_id = ARGV[3], ARGV[4]
local status = reach(id, work_id)
if not status then return {'MISSING'} end
if call('HGET', session(id), 'archived') ~= '' then return {'ARCHIVED'} end
if status == 'terminated' then return {'TERMINATED'} end
if ARGV[6] == '1' and E.kind == 'cloud' then return {'CLOUD'} end
local ask = seed('event')
if ask then return ask end
append(id, 7)
call('ZADD', DUE, us(E.now), id)
if ARGV[5] == '1' and E.kind == 'self_hosted' then message_to(work_id) end
changed(id)
return {'OK', us(E.now)}
