-- Take the next job of several queues and mark it started, in one step: whatever dies after this, and whatever reply
-- is lost, the job is in its queue's registry of started jobs, from which it is handed back.
-- KEYS: what this slot of the worker claimed last, paused queues, then the queues' lists, the first one first.
-- ARGV[6..]: worker, execution id, seconds after which RQ itself would call the job abandoned, what RQ and what the
--   record keeps of a job that waited for too long.
-- Returns {{keys that were passed over, ...}, queue, job id, {field, value, ...}, {field, value, ...} of the record},
-- or {{keys}, {queues that may be waited for, ...}} if there is nothing to take.
local worker, execution, margin, expired_text, expired_error = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9], ARGV[10]

local function name_of(list)
  return string.sub(list, #prefix + 8)  -- without 'rq:queue:'
end

local function expire(id, queue, own_ttl)
  redis.call('HSET', record_prefix .. id, 'error:0', expired_error)
  fail(id, queue, 'failed', own_ttl, {'type', 2, 'worker_name', worker, 'exc_string', expired_text})
  publish('expired', id, queue)
end

-- An id may be listed twice (a stock producer's reply was lost), or its job be done with. What is gone, or was never a
-- job or a list, is passed over and told of: nobody could run it, and nobody may stumble over it for ever.
local DONE = {started = true, finished = true, failed = true, canceled = true, stopped = true}
local passed_over = {}
local function pop(queue, list)
  while true do
    local id = redis.pcall('LPOP', list)
    if type(id) == 'table' then
      table.insert(passed_over, list)
      return nil
    elseif not id then
      return nil
    end
    local job = redis.pcall('HMGET', job_key(id), 'data', 'status', 'kit_expires_at', 'kit_attempts', 'failure_ttl')
    if job.err or not job[1] then
      table.insert(passed_over, job_key(id))
    elseif not (job[2] and DONE[job[2]]) then
      if job[4] or (tonumber(job[3] or '') or math.huge) > now then  -- a ttl is for the first start
        return id
      end
      expire(id, queue, job[5])
    end
  end
end

-- Priorities in use, the highest first; 0 is the plain list that every RQ producer pushes to.
local function priorities(list)
  local found = {0}
  for _, priority in ipairs(redis.call('SMEMBERS', list .. ':priorities')) do
    table.insert(found, tonumber(priority))
  end
  table.sort(found, function(a, b) return a > b end)
  return found
end

local function pop_by_priority(list)
  for _, priority in ipairs(priorities(list)) do
    local id = pop(name_of(list), priority == 0 and list or string.format('%s:p%d', list, priority))
    if id then
      return id
    end
    if priority ~= 0 then
      redis.call('SREM', list .. ':priorities', priority)
    end
  end
end

local function start(list, id)
  local queue, job, composite = name_of(list), job_key(id), id .. ':' .. execution
  local beat_at = string.format('%.6f', now)
  redis.call('HSET', prefix .. ':execution:' .. composite, 'id', execution, 'job_id', id, 'worker_name', worker,
    'created_at', beat_at, 'last_heartbeat', beat_at, 'supervised', 1, 'kit_queue', queue)
  redis.call('EXPIRE', prefix .. ':execution:' .. composite, margin)
  redis.call('ZADD', prefix .. ':executions:' .. id, now + margin, execution)
  redis.call('EXPIRE', prefix .. ':executions:' .. id, margin)
  redis.call('ZADD', prefix .. ':wip:' .. queue, now + margin, composite)
  redis.call('SADD', prefix .. ':worker:' .. worker .. ':executions', composite)
  redis.call('EXPIRE', prefix .. ':worker:' .. worker .. ':executions', margin)
  redis.call('HSET', job, 'status', 'started', 'started_at', now_iso, 'last_heartbeat', now_iso,
    'worker_name', worker)
  redis.call('PERSIST', job)
  redis.call('HSET', KEYS[1], 'execution', execution, 'list', list, 'id', id)
  redis.call('EXPIRE', KEYS[1], margin)
  local attempt = increment(job, 'kit_attempts', 1)
  publish('started', id, queue, {worker = worker, attempt = attempt})
  return attempt
end

local function record(id, attempt)
  local key = record_prefix .. id
  redis.call('HSETNX', key, 'started_at', now_iso)
  redis.call('HSET', key, 'last_attempted_at', now_iso, 'worker:' .. attempt, worker)
  redis.call('EXPIRE', key, failure_ttl)
end

local function show(state)  -- to RQ's dashboard
  local key = prefix .. ':worker:' .. worker
  local shown = redis.call('HMGET', key, 'birth', 'state')
  if shown[1] and shown[2] ~= state then
    redis.call('HSET', key, 'state', state)
  end
end

local function claimed(list, id)
  return {passed_over, list, id, redis.call('HGETALL', job_key(id)), redis.call('HGETALL', record_prefix .. id)}
end

local last = redis.call('HMGET', KEYS[1], 'execution', 'list', 'id')
if last[1] == execution then
  return claimed(last[2], last[3])
end
local open = {}
if redis.call('EXISTS', prefix .. ':suspended') == 1 then
  return {passed_over, open}
end
for i = 3, #KEYS do
  if redis.call('SISMEMBER', KEYS[2], name_of(KEYS[i])) == 0 then
    local id = pop_by_priority(KEYS[i])
    if passed_over[#passed_over] ~= KEYS[i] then
      table.insert(open, KEYS[i])
    end
    if id then
      record(id, start(KEYS[i], id))
      show('busy')
      return claimed(KEYS[i], id)
    end
  end
end
show('idle')
return {passed_over, open}
