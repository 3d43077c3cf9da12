-- Change a workspace's settings.
-- Atomic: the settings and their generation belong together.
-- KEYS[1] workspace. ARGV[1] wall us; then pairs of field (ttl|startup|reclaim|faults|seed) and value ('' = the server's
-- default, or none).
-- Answer: {what an environment copies (`profile`)}.
for i = 2, #ARGV, 2 do
  call('HSET', STATE, ARGV[i], ARGV[i + 1])
end
next_generation()
return profile()
