-- Record how an attempt of a task ended, with all that follows from it, in one step.
-- KEYS: what this slot of the worker claimed last, and beside it which execution it ended last; the job's log.
-- ARGV[6..]: worker, queue name, job id, execution id, outcome ('successful', 'retry', 'failed' or 'stopped'),
--   number of the attempt, seconds it took, JSON for the record, the same as RQ keeps it (base64; '' = nothing),
--   successful: seconds to keep the result; retry: seconds to wait; otherwise: the reason in a few words.
-- Returns {'recorded' or 'superseded' (the job was handed back meanwhile: it is another's), 1 if jobs depend on it}.
local worker, queue, id, execution, outcome = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local attempt, seconds, for_record, for_rq, last = ARGV[11], ARGV[12], ARGV[13], ARGV[14], ARGV[15]
local job, record = job_key(id), record_prefix .. id
local SLOT_SECONDS = 3600

local function result(kind, field)
  local kept = {'type', kind, 'worker_name', worker, 'execution_id', execution, 'execution_ended_at', tostring(now)}
  if for_rq ~= '' then
    table.insert(kept, field)
    table.insert(kept, for_rq)
  end
  return kept
end

local end_as = {}

function end_as.successful()
  local ttl, lock = tonumber(last), redis.call('HGET', job, 'kit_unique')
  if ttl == 0 then
    redis.call('DEL', job, record, KEYS[2], prefix .. ':results:' .. id)
  else
    redis.call('HSET', record, 'return_value', for_record)
    keep_outcome(id, queue, 'finished', ':finished:', ttl, result(1, 'return_value'))
    if ttl > 0 then
      redis.call('EXPIRE', record, ttl)
      redis.call('EXPIRE', KEYS[2], ttl)
    end
  end
  release(lock, id)
  publish('succeeded', id, queue)
end

function end_as.retry()
  local delay = tonumber(last)
  redis.call('HSET', record, 'error:' .. attempt, for_record)
  increment(job, 'retries_left', -1)
  if delay > 0 then
    redis.call('HSET', job, 'status', 'scheduled')
    redis.call('ZADD', prefix .. ':scheduled:' .. queue, string.format('%.6f', now + delay), id)
  else
    push('RPUSH', id, queue, redis.call('HGET', job, 'kit_priority'))
  end
  publish('retry', id, queue, {run_at = now + delay, attempt = tonumber(attempt)})
end

local function end_badly(status)
  redis.call('HSET', record, 'error:' .. attempt, for_record)
  fail(id, queue, status, redis.call('HGET', job, 'failure_ttl'), result(2, 'exc_string'))
  publish(status, id, queue, {reason = last})
end

function end_as.failed()
  end_badly('failed')
end

function end_as.stopped()
  end_badly('stopped')
end

local has_dependents = redis.call('EXISTS', job .. ':dependents')
if redis.call('HGET', KEYS[1], 'ended') == execution then
  return {'recorded', has_dependents}
end
if not end_execution(id, queue, execution, worker) or redis.call('HEXISTS', job, 'data') == 0 then
  return {'superseded', 0}  -- or deleted while it ran
end
redis.call('HSET', KEYS[1], 'ended', execution)
redis.call('EXPIRE', KEYS[1], SLOT_SECONDS)
local counters = prefix .. ':worker:' .. worker
redis.call('HINCRBY', counters, outcome == 'successful' and 'successful_job_count' or 'failed_job_count', 1)
redis.call('HINCRBYFLOAT', counters, 'total_working_time', seconds)
end_as[outcome]()
return {'recorded', has_dependents}
