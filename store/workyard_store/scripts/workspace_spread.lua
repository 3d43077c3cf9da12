-- Note that a change of clock or settings has reached every environment.
-- Atomic: a newer change, or a reset, that came in between is not covered up.
-- KEYS[1] workspace. ARGV[1] the generation that has spread.
-- Answer: {'OK'}.
if call('HGET', STATE, 'generation') == ARGV[1] then
  call('HSET', STATE, 'spread', ARGV[1])
end
return {'OK'}
