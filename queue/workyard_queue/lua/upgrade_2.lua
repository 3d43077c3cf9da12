-- Data format 2 → 3, an environment's timeline: each event becomes one text, which was a field for each thing that it tells.
-- Atomic: the ring is read and written anew in one step, for its entries keep their order. A repeat changes nothing.
-- KEYS[1] environment. ARGV[1] wall us; [2] ''.
-- Answer: {'OK'} | {'GONE'}.
local refusal = begin()
if refusal then return {refusal} end
local entries = call('XRANGE', LIFE, '-', '+')
if #entries == 0 or entries[1][2][1] ~= 'k' then return {'OK'} end
call('DEL', LIFE)
for _, entry in ipairs(entries) do
  local fields, states = entry[2], {f = '', n = ''}
  local details = {}
  for i = 11, #fields, 2 do
    if states[fields[i]] then
      states[fields[i]] = fields[i + 1]
    else
      details[#details + 1] = fields[i]
      details[#details + 1] = fields[i + 1]
    end
  end
  -- Kind, work id, when, wall clock, who called; a state before and after; details.
  local event = {fields[2], fields[4], fields[6], fields[8], fields[10], states.f, states.n, unpack(details)}
  call('XADD', LIFE, entry[1], 'e', table.concat(event, '\n'))
end
return {'OK'}
