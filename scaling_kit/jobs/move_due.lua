-- Move due jobs from a queue's schedule to the queue, as holder of the lease only.
-- KEYS: holder of the lease, schedule. ARGV[6..]: token, queue name, how many at most.
-- Returns {moved, ms until the next is due (-1: none is), {ids that need RQ's rate limiter}}.
local token, queue, limit = ARGV[6], ARGV[7], ARGV[8]
if redis.call('GET', KEYS[1]) ~= token then
  return {0, -1, {}}
end

local function move(id, fields)
  push(fields[4] == '1' and 'LPUSH' or 'RPUSH', id, queue, fields[3])
  if fields[5] and fields[5] ~= '' then
    redis.call('EXPIRE', job_key(id), fields[5])  -- what RQ calls a ttl
  end
  publish('enqueued', id, queue)
end

local moved, limited = 0, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.6f', now), 'LIMIT', 0, limit)) do
  local fields = redis.pcall('HMGET', job_key(id), 'data', 'rate_limit_key', 'kit_priority',
    'enqueue_at_front_on_retry', 'ttl')
  if not fields.err and fields[1] and fields[2] and fields[2] ~= '' then
    table.insert(limited, id)
  else
    redis.call('ZREM', KEYS[2], id)
    if not fields.err and fields[1] then
      move(id, fields)
      moved = moved + 1
    end
  end
end
if moved > 0 then
  redis.call('SADD', prefix .. ':queues', prefix .. ':queue:' .. queue)
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local next_in_ms = first[2] and math.max(0, math.ceil((first[2] - now) * 1000)) or -1
return {moved, next_in_ms, limited}
