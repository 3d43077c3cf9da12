-- Copy a workspace's clock and settings to one of its environments, unless that already has newer ones.
-- Atomic: a step sees the old clock or the new one, never half of each.
-- KEYS[1] environment. ARGV[1] wall us; [2] ''; [3] generation; [4] clock shift us; [5] frozen instant us or '';
-- [6] default ttl s or ''; [7] startup lease s or ''; [8] reclaim ms or ''; [9] '1' if the workspace has fault rules;
-- [10] seed of its ids, or ''; [11] '1' in the clock's mode auto; [12] generation of the clock; [13] '1': the
-- clock, too, which else comes by `clock.lua`.
-- Answer: {'OK'} | {'GONE'}.
local refusal = begin()
if refusal then return {refusal} end
follow(3, ARGV[13] == '1')
wake(true)
-- Time may have come for an agent that waits.
if call('EXISTS', DUE) == 1 then announce('agent', ENV_ID) end
return {'OK'}
