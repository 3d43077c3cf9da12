-- Read a page of a workspace's environments, newest first.
-- KEYS[1] workspace. ARGV[1] wall us; [2] sequence to continue below, or '' for the start; [3] how many;
-- [4] '1' to include archived ones.
-- Answer: {id, sequence, id, sequence, …}.
local from = ARGV[2] == '' and '+inf' or '(' .. ARGV[2]
return call('ZREVRANGEBYSCORE', ARGV[4] == '1' and ENVS or LIVE, from, '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
