-- Write a job and push it, or schedule it; once, however often this is repeated.
-- KEYS: job, set to announce the queue in, list or schedule, bell.
-- ARGV: id, member of that set, score ('' = push now), field, value, ...
-- Returns 1, or 0 if a job of this id was there already.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('SADD', KEYS[2], ARGV[2])
if ARGV[3] ~= '' then
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
  return 1
end
redis.call('RPUSH', KEYS[3], ARGV[1])
redis.call('LPUSH', KEYS[4], '1')
redis.call('LTRIM', KEYS[4], 0, 0)
redis.call('EXPIRE', KEYS[4], 60)
return 1
