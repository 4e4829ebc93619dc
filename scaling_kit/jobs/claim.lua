-- Take the next job of several queues and mark it started, in one step: whatever dies after this, and whatever reply
-- is lost, the job is in its queue's registry of started jobs, from which it is handed back.
-- KEYS: what this worker claimed last, then the queues' lists, the first one first.
-- ARGV: RQ's prefix, worker, execution id, now (ISO), seconds after which RQ itself would call the job abandoned.
-- Returns {queue, job id, {field, value, ...}}, or nothing.
local prefix, worker, execution, now_iso = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local margin = tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function job_key(id)
  return prefix .. ':job:' .. id
end

-- An id may be listed twice (a stock producer's reply was lost), or its job be gone or done with.
local DONE = {started = true, finished = true, failed = true, canceled = true, stopped = true}
local function pop(list)
  while true do
    local id = redis.call('LPOP', list)
    if not id then
      return nil
    end
    local job = redis.call('HMGET', job_key(id), 'data', 'status')
    if job[1] and not (job[2] and DONE[job[2]]) then
      return id
    end
  end
end

-- Priorities in use, the highest first; 0 is the plain list that every RQ producer pushes to.
local function priorities(queue)
  local found = {0}
  for _, priority in ipairs(redis.call('SMEMBERS', queue .. ':priorities')) do
    table.insert(found, tonumber(priority))
  end
  table.sort(found, function(a, b) return a > b end)
  return found
end

local function pop_by_priority(queue)
  for _, priority in ipairs(priorities(queue)) do
    local list = priority == 0 and queue or string.format('%s:p%d', queue, priority)
    local id = pop(list)
    if id then
      return id
    end
    if priority ~= 0 then
      redis.call('SREM', queue .. ':priorities', priority)
    end
  end
end

local function start(queue, id)
  local name = string.sub(queue, #prefix + 8)  -- without 'rq:queue:'
  local job, composite = job_key(id), id .. ':' .. execution
  redis.call('HSET', prefix .. ':execution:' .. composite, 'id', execution, 'job_id', id, 'worker_name', worker,
    'created_at', string.format('%.6f', now), 'last_heartbeat', string.format('%.6f', now), 'supervised', 1)
  redis.call('EXPIRE', prefix .. ':execution:' .. composite, margin)
  redis.call('ZADD', prefix .. ':executions:' .. id, now + margin, execution)
  redis.call('EXPIRE', prefix .. ':executions:' .. id, margin)
  redis.call('ZADD', prefix .. ':wip:' .. name, now + margin, composite)
  redis.call('SADD', prefix .. ':worker:' .. worker .. ':executions', composite)
  redis.call('EXPIRE', prefix .. ':worker:' .. worker .. ':executions', margin)
  redis.call('HSET', job, 'status', 'started', 'started_at', now_iso, 'last_heartbeat', now_iso,
    'worker_name', worker)
  redis.call('HINCRBY', job, 'kit_attempts', 1)
  redis.call('PERSIST', job)
  redis.call('HSET', KEYS[1], 'execution', execution, 'queue', queue, 'id', id)
  redis.call('EXPIRE', KEYS[1], margin)
end

local function show(state)  -- to RQ's dashboard
  local key = prefix .. ':worker:' .. worker
  local shown = redis.call('HMGET', key, 'birth', 'state')
  if shown[1] and shown[2] ~= state then
    redis.call('HSET', key, 'state', state)
  end
end

local last = redis.call('HMGET', KEYS[1], 'execution', 'queue', 'id')
if last[1] == execution then
  return {last[2], last[3], redis.call('HGETALL', job_key(last[3]))}
end
if redis.call('EXISTS', prefix .. ':suspended') == 1 then
  return false
end
for i = 2, #KEYS do
  local id = pop_by_priority(KEYS[i])
  if id then
    start(KEYS[i], id)
    show('busy')
    return {KEYS[i], id, redis.call('HGETALL', job_key(id))}
  end
end
show('idle')
return false
