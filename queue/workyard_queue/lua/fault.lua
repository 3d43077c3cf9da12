-- Record on the timeline of an item that a fault rule was applied to a call on it, and do what the rule does to the item.
-- Atomic: the lease ends in the step that records the reason.
-- KEYS[1]: environment. Arguments: `work_id`; `rule`: its name; `kind` of fault; `worker_id` of the call, or ''.
-- lose_lease: the item's lease ends now. duplicate_delivery: the item is handed out once more, to the next poll of
-- another worker. Any other kind does nothing to the item.
-- Answer: {'OK'} | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local MOST_TWICE = 100
local refusal = open()
if refusal then return {refusal} end
local seq = call('HGET', work(work_id), 'seq')
if not seq then return {'MISSING'} end
touch()
note('fault', work_id, E.now, '', '', 'rule', rule, 'do', kind)
if kind == 'lose_lease' then
  local member = lease_member(seq, work_id)
  if call('ZSCORE', LEASES, member) then lapse(work_id, member, E.now) end
elseif kind == 'duplicate_delivery' and select(2, string.gsub(E.twice, '\n', '')) < MOST_TWICE - 1 then
  local line = work_id .. ' ' .. worker_id
  call('HSET', ENV, 'twice', E.twice == '' and line or E.twice .. '\n' .. line)
  wake()
end
return {'OK'}
