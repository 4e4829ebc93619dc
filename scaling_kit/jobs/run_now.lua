-- Queue jobs that wait for their time. Outcomes: queued, due (a rate limit decides when), state.
return each(function(job)
  local schedule = prefix .. ':scheduled:' .. job.queue
  if job.status ~= 'scheduled' or not redis.call('ZSCORE', schedule, job.id) then
    return 'state', job.status
  elseif job.rate_limit ~= '' then
    redis.call('ZADD', schedule, now, job.id)
    return 'due', ''
  end
  redis.call('ZREM', schedule, job.id)
  queue_up(job)
  publish('enqueued', job.id, job.queue)
  return 'queued', ''
end)
