-- Note on the timeline of an item that a fault rule was applied to a call on it, and do what the rule does to the item.
-- Atomic: the lease ends in the step that notes why.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] work id; [4] name of the rule; [5] kind of fault;
-- [6] worker id of the call or ''.
-- lose_lease: the item's lease ends now. duplicate_delivery: the item is handed out once more, to the next poll of
-- another worker. Any other kind does nothing to the item.
-- Answer: {'OK'} | {'MISSING'} | {'AGAIN'} | {'GONE'} | {'FOREIGN'}.
local MOST_TWICE = 100
local refusal = open()
if refusal then return {refusal} end
local id, kind = ARGV[3], ARGV[5]
local seq = call('HGET', work(id), 'seq')
if not seq then return {'MISSING'} end
touch()
note('fault', id, E.now, '', '', 'rule', ARGV[4], 'do', kind)
if kind == 'lose_lease' then
  local member = lease_member(seq, id)
  if call('ZSCORE', LEASES, member) then lapse(id, member, E.now) end
elseif kind == 'duplicate_delivery' and select(2, string.gsub(E.twice, '\n', '')) < MOST_TWICE - 1 then
  local line = id .. ' ' .. ARGV[6]
  call('HSET', ENV, 'twice', E.twice == '' and line or E.twice .. '\n' .. line)
  wake()
end
return {'OK'}
