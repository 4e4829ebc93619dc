-- Put a started job whose process is gone back at the head of its queue, or fail it for good.
-- KEYS: sign of life of the worker, holder of the lease ('' = we know that the process is gone).
-- ARGV[6..]: queue name, job id, execution id, worker, 1 if it was killed, how often it may be, lease token, reason,
--   the failure's text as RQ stores it, the same for the record.
-- Returns 'requeued', 'failed' or 'no'.
local queue, id, execution, worker = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local killed, limit, token, reason = ARGV[10] == '1', tonumber(ARGV[11]), ARGV[12], ARGV[13]
local job = job_key(id)

if KEYS[2] ~= '' and (redis.call('GET', KEYS[2]) ~= token or redis.call('EXISTS', KEYS[1]) == 1) then
  return 'no'
end
local fields = redis.call('HMGET', job, 'status', 'kit_task', 'kit_priority', 'kit_attempts', 'failure_ttl')
if not end_execution(id, queue, execution, worker) or fields[1] ~= 'started' then
  return 'no'
end
if killed and fields[2] then
  redis.call('HSET', record_prefix .. id, 'error:' .. (fields[4] or '0'), ARGV[15])
  redis.call('EXPIRE', record_prefix .. id, failure_ttl)
end
if killed and increment(job, 'kit_kills', 1) >= limit then
  fail(id, queue, 'failed', fields[5],
    {'type', 2, 'worker_name', worker, 'exc_string', ARGV[14], 'execution_id', execution})
  publish('failed', id, queue, {reason = reason})
  return 'failed'
end
push('LPUSH', id, queue, fields[3])
publish('handed_back', id, queue, {reason = reason})
return 'requeued'
