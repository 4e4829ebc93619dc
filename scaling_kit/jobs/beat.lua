-- Say that workers live, and keep what RQ shows of them and of the jobs they run from expiring.
-- KEYS: signs of life. ARGV: RQ's prefix, their ttl in ms, ttl of RQ's keys in s, now (ISO), workers in that order.
local prefix, margin, now_iso = ARGV[1], ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function keep(composite)
  local id, execution = string.match(composite, '^([^:]+):(.+)$')
  local queue = redis.call('HGET', prefix .. ':execution:' .. composite, 'kit_queue')
  if not queue then
    return
  end
  redis.call('ZADD', prefix .. ':executions:' .. id, 'XX', now + margin, execution)
  redis.call('EXPIRE', prefix .. ':executions:' .. id, margin)
  if redis.call('EXPIRE', prefix .. ':execution:' .. composite, margin) == 1 then
    redis.call('HSET', prefix .. ':execution:' .. composite, 'last_heartbeat', string.format('%.6f', now))
  end
end

for i, alive in ipairs(KEYS) do
  local worker = prefix .. ':worker:' .. ARGV[4 + i]
  redis.call('SET', alive, '1', 'PX', ARGV[2])
  if redis.call('EXPIRE', worker, margin) == 1 then
    redis.call('HSET', worker, 'last_heartbeat', now_iso)
  end
  redis.call('EXPIRE', worker .. ':executions', margin)
  for _, composite in ipairs(redis.call('SMEMBERS', worker .. ':executions')) do
    keep(composite)
  end
end
return #KEYS
