-- Patch an item's metadata.
-- Atomic: the cap on the number of keys judges the result.
-- KEYS[1] environment. ARGV[1] wall us; [2] workspace or ''; [3] work id; [4] most keys; [5] '0' if the patch is already
-- known to be refused: only the number of keys is wanted; then triples of key, '1' (set) or '0' (delete), value.
-- Answer: {'OK', fields} | {'REFUSED', number of keys the result would have} | {'MISSING'} | {'AGAIN'} | {'GONE'}
-- | {'FOREIGN'}.
local refusal = open()
if refusal then return {refusal} end
local id = ARGV[3]
local names = call('HKEYS', work(id))
if #names == 0 then return {'MISSING'} end
local has, count = {}, 0
for _, name in ipairs(names) do
  if string.sub(name, 1, 2) == 'm:' then
    has[name] = true
    count = count + 1
  end
end
for i = 6, #ARGV, 3 do
  local name, set = 'm:' .. ARGV[i], ARGV[i + 1] == '1'
  if set ~= (has[name] or false) then
    has[name] = set
    count = count + (set and 1 or -1)
  end
end
if ARGV[5] == '0' or count > tonumber(ARGV[4]) then return {'REFUSED', count} end
for i = 6, #ARGV, 3 do
  if ARGV[i + 1] == '1' then
    call('HSET', work(id), 'm:' .. ARGV[i], ARGV[i + 2])
  else
    call('HDEL', work(id), 'm:' .. ARGV[i])
  end
end
touch()
note('metadata', id, E.now, '', '', 'keys', us((#ARGV - 5) / 3))
return {'OK', call('HGETALL', work(id))}
