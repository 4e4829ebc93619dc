-- Queue jobs that failed, were canceled or stopped as if for the first time; what happened to them before is kept.
-- Outcomes: queued, duplicate (with the id of the other), rate_limited (only RQ can), state.
local RETRIABLE = {failed = true, canceled = true, stopped = true}

local function taken_by_other(job)
  local holder = job.unique and redis.call('GET', job.unique)
  local other = holder and holder ~= job.id and find(holder)
  return other and not FINAL[other.status] and holder
end

local function retries(job)
  local readable, task = pcall(cjson.decode, job.task or '{}')
  local policy = readable and type(task) == 'table' and task.retry
  return type(policy) == 'table' and policy.count
end

return each(function(job)
  if not RETRIABLE[job.status] then
    return 'state', job.status
  elseif job.rate_limit ~= '' then
    return 'rate_limited', job.queue
  end
  local holder = taken_by_other(job)
  if holder then
    return 'duplicate', holder
  end
  if job.unique then
    redis.call('SET', job.unique, job.id, 'EX', failure_ttl)
  end
  unregister(job.id, job.queue)
  redis.call('HDEL', job.key, 'kit_kills', 'kit_expires_at', 'started_at', 'ended_at', 'exc_info', 'worker_name')
  if retries(job) then
    redis.call('HSET', job.key, 'retries_left', string.format('%d', retries(job)))
  end
  redis.call('EXPIRE', record_prefix .. job.id, failure_ttl)
  redis.call('EXPIRE', log_prefix .. job.id, failure_ttl)
  queue_up(job)
  publish('requeued', job.id, job.queue)
  return 'queued', ''
end)
