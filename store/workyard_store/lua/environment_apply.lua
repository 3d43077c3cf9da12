-- Copy a workspace's clock and settings to one of its environments, unless that already has newer ones.
-- Atomic: a step sees the old clock or the new one, never half of each.
-- KEYS[1]: environment. Arguments: those of `_profile.lua`, and `clock`: whether to copy the clock, too; otherwise
-- `clock.lua` copies it.
-- Answer: {'OK'} | {'GONE'}.
local refusal = begin()
if refusal then return {refusal} end
follow(clock)
wake(true)
-- A waiting agent may be due now.
if call('EXISTS', DUE) == 1 then announce('agent', ENV_ID) end
return {'OK'}
