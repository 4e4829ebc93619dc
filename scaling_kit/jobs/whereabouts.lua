-- Where a job is and how it is taken from there: between transitions.lua and each script of control.py.
-- ARGV[6..]: prefix of the jobs' logs, queue ('' = the job says), then the script's own.
local log_prefix, asked_queue, FIRST = ARGV[6], ARGV[7], 8
local REGISTRIES = {'scheduled', 'failed', 'finished', 'canceled', 'deferred', 'ready'}
local FINAL = {finished = true, failed = true, canceled = true, stopped = true}

local function queue_key(queue, priority)
  local base = prefix .. ':queue:' .. queue
  return priority == '0' and base or base .. ':p' .. priority
end

local function find(id)
  local key = job_key(id)
  if redis.call('TYPE', key).ok ~= 'hash' then
    return nil
  end
  local found = redis.call('HMGET', key, 'status', 'origin', 'kit_priority', 'kit_unique', 'rate_limit_key',
    'worker_name', 'kit_task', 'failure_ttl', 'ttl', 'group_id')
  local function text(value, default)
    return (value and value ~= '') and value or default
  end
  return {
    id = id, key = key, status = text(found[1], 'created'), queue = text(found[2], asked_queue),
    priority = text(found[3], '0'), unique = text(found[4]), rate_limit = text(found[5], ''),
    worker = text(found[6], ''), task = text(found[7]), failure_ttl = tonumber(found[8] or failure_ttl),
    ttl = tonumber(found[9] or 0), group = text(found[10]),
  }
end

-- A hash that says "started" while nobody has an execution of it is a ghost.
local function is_running(job)
  return job.status == 'started' and redis.call('ZCARD', prefix .. ':executions:' .. job.id) > 0
end

local function unlist(job)  -- from the lists of those that wait; returns how often it was there
  local taken = redis.call('LREM', queue_key(job.queue, '0'), 0, job.id)
  if job.priority ~= '0' then
    taken = taken + redis.call('LREM', queue_key(job.queue, job.priority), 0, job.id)
  end
  return taken
end

local function unregister(id, queue)
  for _, registry in ipairs(REGISTRIES) do
    redis.call('ZREM', prefix .. ':' .. registry .. ':' .. queue, id)
  end
end

local function queue_up(job)  -- at the end of its queue
  if job.ttl > 0 then
    redis.call('EXPIRE', job.key, job.ttl)
  else
    redis.call('PERSIST', job.key)
  end
  redis.call('SADD', prefix .. ':queues', queue_key(job.queue, '0'))
  push('RPUSH', job.id, job.queue, job.priority)
end

local function forget(job)  -- everything that is kept of it, but for its place in lists of those that wait
  unregister(job.id, job.queue)
  release(job.unique, job.id)
  if job.group then
    redis.call('SREM', prefix .. ':group:' .. job.group, job.id)
  end
  redis.call('DEL', job.key, job.key .. ':dependents', prefix .. ':job::' .. job.id .. ':dependencies',
    prefix .. ':results:' .. job.id, prefix .. ':executions:' .. job.id, record_prefix .. job.id,
    log_prefix .. job.id)
  publish('removed', job.id, job.queue)
end

-- Do something with each job named in ARGV; returns {{outcome, detail}, ...}.
local function each(act)
  local answers = {}
  for i = FIRST, #ARGV do
    local job = find(ARGV[i])
    if job then
      table.insert(answers, {act(job)})
    else
      if asked_queue ~= '' then
        unregister(ARGV[i], asked_queue)
      end
      table.insert(answers, {'gone', ''})
    end
  end
  return answers
end
