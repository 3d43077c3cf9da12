-- Read a page of a workspace's environments, newest first.
-- KEYS[1]: workspace. Arguments: `below`: sequence to continue below, or '' for the start; `count`: how many;
-- `include_archived`.
-- Answer: {id, sequence, id, sequence, …}.
local from = below == '' and '+inf' or '(' .. below
return call('ZREVRANGEBYSCORE', include_archived and ENVS or LIVE, from, '-inf', 'WITHSCORES', 'LIMIT', 0, count)
