-- Remove a part of what a deleted environment left: work items first, the rest when there are none.
-- Atomic: an item is unlinked together with its place in the index, so a crash between two batches forgets none.
-- KEYS[1] environment. ARGV[1] how many items at most.
-- Answer: {'LIVE'}: it is not deleted, nothing was touched | {'MORE', keys removed} | {'DONE', keys removed}.
if call('EXISTS', ENV) == 1 then return {'LIVE'} end
local removed = 0
local ids = call('ZRANGE', INDEX, 0, tonumber(ARGV[1]) - 1)
if #ids > 0 then
  for _, id in ipairs(ids) do
    removed = removed + call('UNLINK', WORK_ .. id, TOKENS_ .. id)
  end
  -- The last member takes the index itself with it, which counts as a removed key too.
  call('ZREMRANGEBYRANK', INDEX, 0, #ids - 1)
  return {'MORE', removed + 1 - call('EXISTS', INDEX)}
end
return {'DONE', call('UNLINK', STREAM, POLLED, LEASES, INDEX, POLLERS, KEYS_, IDEM)}
