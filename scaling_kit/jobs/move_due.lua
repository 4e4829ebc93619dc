-- Move due jobs from a queue's schedule to the queue, as holder of the lease only.
-- KEYS: holder of the lease, schedule, queue. ARGV: token, RQ's prefix, now (ISO), how many at most.
-- Returns {moved, ms until the next is due (-1: none is), {ids that need RQ's rate limiter}}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {0, -1, {}}
end
local prefix, now_iso = ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function push(id, job, priority, at_front)
  redis.call('HSET', job, 'status', 'queued', 'enqueued_at', now_iso)
  local list = KEYS[3]
  if priority and priority ~= '0' then
    redis.call('SADD', KEYS[3] .. ':priorities', priority)
    list = list .. ':p' .. priority
  end
  redis.call(at_front and 'LPUSH' or 'RPUSH', list, id)
end

local moved, limited = 0, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.6f', now), 'LIMIT', 0, ARGV[4])) do
  local job = prefix .. ':job:' .. id
  local fields = redis.call('HMGET', job, 'data', 'rate_limit_key', 'kit_priority', 'enqueue_at_front_on_retry',
    'retries_left', 'ttl')
  if fields[1] and fields[2] and fields[2] ~= '' then
    table.insert(limited, id)
  else
    redis.call('ZREM', KEYS[2], id)
  end
  if fields[1] and not (fields[2] and fields[2] ~= '') then
    push(id, job, fields[3], fields[4] == '1')
    if fields[6] and fields[6] ~= '' then
      redis.call('EXPIRE', job, fields[6])
    end
    moved = moved + 1
  end
end
if moved > 0 then
  redis.call('SADD', prefix .. ':queues', KEYS[3])
  redis.call('LPUSH', KEYS[3] .. ':bell', '1')
  redis.call('LTRIM', KEYS[3] .. ':bell', 0, 0)
  redis.call('EXPIRE', KEYS[3] .. ':bell', 60)
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local next_in_ms = first[2] and math.max(0, math.ceil((first[2] - now) * 1000)) or -1
return {moved, next_in_ms, limited}
