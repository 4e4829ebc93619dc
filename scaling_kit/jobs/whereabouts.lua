-- Where a job is, how it is taken from there and put elsewhere: what every script of control.py begins with.
-- ARGV: RQ's prefix, the room's prefix, now (ISO), seconds to keep a failure, queue ('' = the job says), then the
-- script's own.
local prefix, kit, now_iso, keep_seconds, asked_queue = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local FIRST = 6
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local REGISTRIES = {'scheduled', 'failed', 'finished', 'canceled', 'deferred', 'ready'}
local FINAL = {finished = true, failed = true, canceled = true, stopped = true}

local function job_key(id)
  return prefix .. ':job:' .. id
end

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
    worker = text(found[6], ''), task = text(found[7]), failure_ttl = tonumber(found[8] or keep_seconds),
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

local function push(job)
  redis.call('HSET', job.key, 'status', 'queued', 'enqueued_at', now_iso)
  if job.ttl > 0 then
    redis.call('EXPIRE', job.key, job.ttl)
  else
    redis.call('PERSIST', job.key)
  end
  local base = queue_key(job.queue, '0')
  redis.call('SADD', prefix .. ':queues', base)
  if job.priority ~= '0' then
    redis.call('SADD', base .. ':priorities', job.priority)
  end
  redis.call('RPUSH', queue_key(job.queue, job.priority), job.id)
  redis.call('LPUSH', base .. ':bell', '1')
  redis.call('LTRIM', base .. ':bell', 0, 0)
  redis.call('EXPIRE', base .. ':bell', 60)
end

local function release(job)  -- so that another job like it may be enqueued
  if job.unique and redis.call('GET', job.unique) == job.id then
    redis.call('DEL', job.unique)
  end
end

local function announce(event, job, extra)
  local message = extra or {}
  message.event, message.id, message.queue, message.at = event, job.id, job.queue, now
  redis.call('PUBLISH', kit .. ':event:' .. job.id, cjson.encode(message))
end

local function forget(job)  -- everything that is kept of it, but for its place in lists of those that wait
  unregister(job.id, job.queue)
  release(job)
  if job.group then
    redis.call('SREM', prefix .. ':group:' .. job.group, job.id)
  end
  redis.call('DEL', job.key, job.key .. ':dependents', prefix .. ':job::' .. job.id .. ':dependencies',
    prefix .. ':results:' .. job.id, prefix .. ':executions:' .. job.id, kit .. ':record:' .. job.id,
    kit .. ':log:' .. job.id)
  announce('removed', job)
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
