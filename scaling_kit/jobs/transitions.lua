-- What the scripts that move jobs from state to state have in common; put in front of each of them.
-- ARGV[1..5]: RQ's prefix, prefixes of an event's channel and of a task's record, now (ISO), seconds to keep a failure.
local prefix, event_prefix, record_prefix, now_iso, failure_ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function job_key(id)
  return prefix .. ':job:' .. id
end

-- A counter that somebody has spoilt starts anew: it must not keep its job from being taken or ended.
local function increment(key, field, by)
  local value = redis.pcall('HINCRBY', key, field, by)
  if type(value) == 'table' then
    redis.call('HSET', key, field, by)
    return by
  end
  return value
end

local function publish(event, id, queue, more)
  local told = {event = event, id = id, queue = queue, at = now}
  for field, value in pairs(more or {}) do
    told[field] = value
  end
  redis.call('PUBLISH', event_prefix .. id, cjson.encode(told))
end

local function release(lock, id)
  if lock and redis.call('GET', lock) == id then
    redis.call('DEL', lock)
  end
end

local function ring(queue)
  local bell = prefix .. ':queue:' .. queue .. ':bell'
  redis.call('LPUSH', bell, '1')
  redis.call('LTRIM', bell, 0, 0)
  redis.call('EXPIRE', bell, 60)
end

-- `at` is LPUSH for the head of the queue, RPUSH for its end.
local function push(at, id, queue, priority)
  local list = prefix .. ':queue:' .. queue
  redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', now_iso)
  if priority and priority ~= '0' then
    redis.call('SADD', list .. ':priorities', priority)
    list = list .. ':p' .. priority
  end
  redis.call(at, list, id)
  ring(queue)
end

-- Being in this registry is what says that an execution has not been handed back, or ended, yet.
local function end_execution(id, queue, execution, worker)
  local composite = id .. ':' .. execution
  local was_started = redis.call('ZREM', prefix .. ':wip:' .. queue, composite)
  redis.call('DEL', prefix .. ':execution:' .. composite)
  redis.call('ZREM', prefix .. ':executions:' .. id, execution)
  redis.call('SREM', prefix .. ':worker:' .. worker .. ':executions', composite)
  return was_started == 1
end

-- `result` is what RQ keeps of an outcome: {'field', value, ...}.
local function keep_outcome(id, queue, status, registry, ttl, result)
  local job, results = job_key(id), prefix .. ':results:' .. id
  redis.call('HSET', job, 'status', status, 'ended_at', now_iso)
  redis.call('XADD', results, 'MAXLEN', 10, '*', unpack(result))
  redis.call('ZADD', prefix .. registry .. queue, ttl < 0 and '+inf' or now + ttl, id)
  if ttl >= 0 then
    redis.call('EXPIRE', job, ttl)
    redis.call('EXPIRE', results, ttl)
  end
end

local function fail(id, queue, status, own_ttl, result)
  keep_outcome(id, queue, status, ':failed:', tonumber(own_ttl or '') or tonumber(failure_ttl), result)
  redis.call('EXPIRE', record_prefix .. id, failure_ttl)
  release(redis.call('HGET', job_key(id), 'kit_unique'), id)
end
