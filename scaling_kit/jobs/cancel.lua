-- Take jobs that have not begun out of the way for good; ask the workers of those that run to stop.
-- Outcomes: canceled, stopping, unheard (nobody listened), state (with the one that forbids it).
local SOME = 20

return each(function(job)
  if job.status == 'canceled' then
    return 'canceled', job.rate_limit
  elseif is_running(job) then
    local message = cjson.encode({command = 'stop-job', job_id = job.id})
    return redis.call('PUBLISH', prefix .. ':pubsub:' .. job.worker, message) > 0 and 'stopping' or 'unheard', ''
  elseif FINAL[job.status] then
    return 'state', job.status
  end
  unlist(job)
  unregister(job.id, job.queue)
  release(job.unique, job.id)
  redis.call('HSET', job.key, 'status', 'canceled', 'ended_at', now_iso)
  if job.failure_ttl >= 0 then
    redis.call('EXPIRE', job.key, job.failure_ttl)
  end
  local canceled = prefix .. ':canceled:' .. job.queue
  redis.call('ZADD', canceled, now, job.id)
  -- RQ never tidies this registry: who adds to it drops some whose jobs have expired.
  for _, old in ipairs(redis.call('ZRANGE', canceled, 0, SOME - 1)) do
    if redis.call('EXISTS', job_key(old)) == 0 then
      redis.call('ZREM', canceled, old)
    end
  end
  publish('canceled', job.id, job.queue)
  return 'canceled', job.rate_limit
end)
