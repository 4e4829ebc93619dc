-- Write a job and push it, or schedule it; once, however often this is repeated.
-- KEYS: job, set to announce the queue in, list or schedule, bell ('' = the list rings by itself), lock of a unique
--   job ('' = it is not), what remembers a job that will be removed when it is done ('' = it will not).
-- ARGV: id, member of that set, score ('' = push now), channel of its events, queue name, prefix of the jobs, seconds
--   to keep the lock, fields as a JSON object, field, value, ... (those that are no text).
-- Returns the id of the job that is there now: this one, or the one that holds the lock.
local id, score, queue = ARGV[1], ARGV[3], ARGV[5]
local REMEMBERED_SECONDS = 30  -- twice as long as all repetitions of a call can take
local DONE = {finished = true, failed = true, canceled = true, stopped = true}

local function holder_of(lock)
  local holder = redis.call('GET', lock)
  local status = holder and redis.call('HGET', ARGV[6] .. holder, 'status')
  return status and not DONE[status] and holder
end

local function write()
  local fields = {}
  for field, value in pairs(cjson.decode(ARGV[8])) do
    table.insert(fields, field)
    table.insert(fields, value)
  end
  for i = 9, #ARGV do
    table.insert(fields, ARGV[i])
  end
  redis.call('HSET', KEYS[1], unpack(fields))
  redis.call('SADD', KEYS[2], ARGV[2])
end

local function publish(event, run_at)
  local time = redis.call('TIME')
  local told = {event = event, id = id, queue = queue, at = time[1] + time[2] / 1000000, run_at = run_at}
  redis.call('PUBLISH', ARGV[4], cjson.encode(told))
end

if redis.call('EXISTS', KEYS[1], KEYS[6]) > 0 then
  return id
end
if KEYS[5] ~= '' then
  local holder = holder_of(KEYS[5])
  if holder then
    return holder
  end
  redis.call('SET', KEYS[5], id, 'EX', ARGV[7])
end
write()
if KEYS[6] ~= '' then
  redis.call('SET', KEYS[6], '1', 'EX', REMEMBERED_SECONDS)
end
if score ~= '' then
  redis.call('ZADD', KEYS[3], score, id)
  publish('scheduled', tonumber(score))
  return id
end
redis.call('RPUSH', KEYS[3], id)
if KEYS[4] ~= '' then
  redis.call('LPUSH', KEYS[4], '1')
  redis.call('LTRIM', KEYS[4], 0, 0)
  redis.call('EXPIRE', KEYS[4], 60)
end
publish('enqueued')
return id
