-- Enqueue a job of a schedule outside its timetable, and remember it as one of its runs.
-- KEYS: history [, job, queue, queues, bell ('' if none)]
-- ARGV: job id, its time, history length, history ttl in s [, queue name, field, value, ...]
-- A repetition (the reply was lost, or somebody clicked twice within a second) enqueues nothing.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
if #KEYS > 1 then
  redis.call('HSET', KEYS[2], unpack(ARGV, 6))
  redis.call('SADD', KEYS[4], ARGV[5])
  redis.call('RPUSH', KEYS[3], ARGV[1])
  if KEYS[5] ~= '' then
    redis.call('LPUSH', KEYS[5], '1')
    redis.call('LTRIM', KEYS[5], 0, 0)
    redis.call('EXPIRE', KEYS[5], 60)
  end
end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
