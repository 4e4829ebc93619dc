-- Let a job that waits, or will, be taken earlier or later than others of its queue: behind those of its new priority.
-- ARGV after those of whereabouts.lua: id, priority, what the job says of its task ('' = nothing).
-- Returns {outcome, detail}; outcomes: queued, scheduled, gone, state.
local job, priority, task = find(ARGV[FIRST]), ARGV[FIRST + 1], ARGV[FIRST + 2]
if not job then
  return {'gone', ''}
elseif job.status ~= 'queued' and job.status ~= 'scheduled' then
  return {'state', job.status}
elseif job.priority == priority then
  return {job.status, ''}
end
local listed = job.status == 'queued' and unlist(job)
if listed == 0 then
  return {'state', 'about to be started'}  -- a stock RQ worker holds it in its hands
end
redis.call('HSET', job.key, 'kit_priority', priority)
if task ~= '' then
  redis.call('HSET', job.key, 'kit_task', task)
end
job.priority = priority
if listed then
  if priority ~= '0' then
    redis.call('SADD', queue_key(job.queue, '0') .. ':priorities', priority)
  end
  redis.call('RPUSH', queue_key(job.queue, priority), job.id)
  ring(job.queue)
end
publish('priority', job.id, job.queue, {priority = tonumber(priority)})
return {job.status, ''}
