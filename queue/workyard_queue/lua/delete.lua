-- Make an environment unknown. What it leaves is purged afterwards.
-- Atomic: no work enters between the check of the queue and the deletion.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] '1' for force; [4] '1' if polls and listeners
-- are not to be told: it comes back.
-- Answer: {'OK'} | {'SESSIONS', n}: n sessions are active | {'QUEUED'}: work is queued | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if ARGV[3] ~= '1' then
  local active = tonumber(call('HGET', ENV, 'active') or 0)
  if active > 0 then return {'SESSIONS', active} end
end
if E.kind == 'self_hosted' and ARGV[3] ~= '1' then
  local depth, pending = counts()
  if depth + pending > 0 then return {'QUEUED'} end
end
call('DEL', ENV)
if ARGV[4] ~= '1' then wake(true) end
return {'OK'}
