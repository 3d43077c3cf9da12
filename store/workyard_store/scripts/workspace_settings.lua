-- Change a workspace's lease settings.
-- Atomic: the settings and their generation belong together.
-- KEYS[1] workspace. ARGV[1] wall us; then pairs of field (ttl|startup|reclaim) and value ('' = the server's default).
-- Answer: {shift, frozen, ttl, startup, reclaim, generation}.
for i = 2, #ARGV, 2 do
  call('HSET', STATE, ARGV[i], ARGV[i + 1])
end
next_generation()
return profile()
