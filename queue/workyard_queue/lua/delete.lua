-- Make an environment unknown. Its keys are purged afterwards.
-- Atomic: no work enters between the check of the queue and the deletion.
-- KEYS[1]: environment. Arguments: `force`: whatever is queued or active; `quietly`: do not notify polls and listeners, because
-- the environment will be restored.
-- Answer: {'OK'} | {'SESSIONS', n}: n sessions are active | {'QUEUED'}: work is queued | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
if not force then
  local active = tonumber(call('HGET', ENV, 'active') or 0)
  if active > 0 then return {'SESSIONS', active} end
end
if E.kind == 'self_hosted' and not force then
  local depth, pending = counts()
  if depth + pending > 0 then return {'QUEUED'} end
end
call('DEL', ENV)
if not quietly then wake(true) end
return {'OK'}
