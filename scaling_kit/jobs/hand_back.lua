-- Put a started job whose process is gone back at the head of its queue, or fail it for good.
-- KEYS: record of the task, sign of life of the worker, holder of the lease ('' = we know that the process is gone).
-- ARGV: RQ's prefix, queue name, job id, execution id, worker, 1 if it was killed, how often it may be, lease token,
--       now (ISO), reason, the failure's text as RQ stores it, seconds to keep a failure.
-- Returns 'requeued', 'failed' or 'no'.
local prefix, queue, id, execution, worker = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local killed, limit, now_iso, reason = ARGV[6] == '1', tonumber(ARGV[7]), ARGV[9], ARGV[10]
local job, composite = prefix .. ':job:' .. id, id .. ':' .. execution
local time = redis.call('TIME')

if KEYS[3] ~= '' and (redis.call('GET', KEYS[3]) ~= ARGV[8] or redis.call('EXISTS', KEYS[2]) == 1) then
  return 'no'
end
-- Being in this registry is what says that the job has not been handed back, or ended, yet.
local was_started = redis.call('ZREM', prefix .. ':wip:' .. queue, composite)
redis.call('DEL', prefix .. ':execution:' .. composite)
redis.call('ZREM', prefix .. ':executions:' .. id, execution)
redis.call('SREM', prefix .. ':worker:' .. worker .. ':executions', composite)
local fields = redis.call('HMGET', job, 'status', 'kit_task', 'kit_priority', 'kit_attempts', 'failure_ttl')
if was_started == 0 or fields[1] ~= 'started' then
  return 'no'
end

if killed and fields[2] then
  local error = cjson.encode({exception_class_path = 'scaling_kit.jobs.attempts.ProcessDiedError', traceback = reason})
  redis.call('HSET', KEYS[1], 'error:' .. (fields[4] or '0'), error)
  redis.call('EXPIRE', KEYS[1], ARGV[12])
end
if killed and redis.call('HINCRBY', job, 'kit_kills', 1) >= limit then
  local ttl = tonumber(fields[5] or ARGV[12])
  redis.call('HSET', job, 'status', 'failed', 'ended_at', now_iso)
  redis.call('XADD', prefix .. ':results:' .. id, 'MAXLEN', 10, '*', 'type', 2, 'worker_name', worker,
    'exc_string', ARGV[11], 'execution_id', execution)
  redis.call('ZADD', prefix .. ':failed:' .. queue, ttl < 0 and '+inf' or time[1] + ttl, id)
  if ttl >= 0 then
    redis.call('EXPIRE', job, ttl)
    redis.call('EXPIRE', prefix .. ':results:' .. id, ttl)
  end
  return 'failed'
end

local base = prefix .. ':queue:' .. queue
redis.call('HSET', job, 'status', 'queued', 'enqueued_at', now_iso)
if fields[3] and fields[3] ~= '0' then
  redis.call('SADD', base .. ':priorities', fields[3])
  redis.call('LPUSH', base .. ':p' .. fields[3], id)
else
  redis.call('LPUSH', base, id)
end
redis.call('LPUSH', base .. ':bell', '1')
redis.call('LTRIM', base .. ':bell', 0, 0)
redis.call('EXPIRE', base .. ':bell', 60)
return 'requeued'
