-- Change a workspace's settings.
-- Atomic: the settings and their generation belong together.
-- KEYS[1]: workspace. Arguments: `changes`: rows of `field` (ttl|startup|reclaim|faults|seed) and `value` ('' = the server's
-- default, or none).
-- Answer: {what an environment copies (`profile`)}.
for _, change in ipairs(changes) do
  call('HSET', STATE, change.field, change.value)
end
next_generation()
return profile()
