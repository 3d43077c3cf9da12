-- Read memories of a store.
-- Atomic: a memory's content is the one that its record describes.
-- KEYS[1] workspace. ARGV[1] wall us; [2] store id; [3] '1' with their content; [4…] memory ids.
-- Answer: {'OK', memory id, record, content, …}, a memory that is gone left out | {'STORE'}.
if not call('HGET', STORES, STORE) then return {'STORE'} end
local answer = {'OK'}
for i = 4, #ARGV do
  local m = memory(ARGV[i])
  if m then
    answer[#answer + 1] = ARGV[i]
    answer[#answer + 1] = m.text
    answer[#answer + 1] = ARGV[3] == '1' and call('HGET', TEXTS, ARGV[i]) or ''
  end
end
return answer
