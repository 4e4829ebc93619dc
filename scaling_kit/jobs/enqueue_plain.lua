-- Write a job of RQ's own kind and push or schedule it; once, however often this call is repeated.
-- KEYS: job, RQ's set of queues, list or schedule, what remembers this call.
-- ARGV: id, queue's key, score ('' = push now), LPUSH or RPUSH, 1 if there must be no job of this id yet, seconds that
--   it may wait ('' = for ever), channel of its events, queue name, field, value, ...
-- Returns 1, or 0 if there is a job of this id and must not be.
local id, score, queue = ARGV[1], ARGV[3], ARGV[8]
local REMEMBERED_SECONDS = 30  -- twice as long as all repetitions of a call can take

local function publish(event, run_at)
  local time = redis.call('TIME')
  local told = {event = event, id = id, queue = queue, at = time[1] + time[2] / 1000000, run_at = run_at}
  redis.call('PUBLISH', ARGV[7], cjson.encode(told))
end

local function write()
  redis.call('HSET', KEYS[1], unpack(ARGV, 9))
  redis.call('HDEL', KEYS[1], 'kit_attempts', 'kit_kills')  -- of an earlier run under the same id
  if ARGV[6] ~= '' then
    redis.call('EXPIRE', KEYS[1], ARGV[6])
  else
    redis.call('PERSIST', KEYS[1])  -- which may be about to expire with its last result
  end
  redis.call('SADD', KEYS[2], ARGV[2])
end

local function enqueue()
  if ARGV[5] == '1' and redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
  end
  write()
  if score ~= '' then
    redis.call('ZADD', KEYS[3], score, id)
    publish('scheduled', tonumber(score))
  else
    redis.call(ARGV[4], KEYS[3], id)
    publish('enqueued')
  end
  return 1
end

local answered = redis.call('GET', KEYS[4])
if answered then
  return tonumber(answered)
end
local answer = enqueue()
redis.call('SET', KEYS[4], answer, 'EX', REMEMBERED_SECONDS)
return answer
