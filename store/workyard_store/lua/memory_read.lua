-- Read memories of a store.
-- Atomic: a memory's content is the one that its record describes.
-- KEYS[1]: workspace. Arguments: `full`: with their content; `memory_ids`.
-- Answer: {'OK', memory id, record, content, …}, a memory that is gone left out | {'STORE'}.
if not call('HGET', STORES, STORE) then return {'STORE'} end
local answer = {'OK'}
for _, id in ipairs(memory_ids) do
  local m = memory(id)
  if m then
    answer[#answer + 1] = id
    answer[#answer + 1] = m.text
    answer[#answer + 1] = full and call('HGET', TEXTS, id) or ''
  end
end
return answer
