-- A server that was restarted or failed over may have lost the last bumps: then no entry counts any more.
-- KEYS: run id, sequence, epoch tag. ARGV: lifetime of a tag in ms. Returns 1 if it is another server than before.
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if redis.call('GET', KEYS[1]) == run_id then
  return 0
end
local now = redis.call('TIME')
local sequence = math.max(now[1] * 1000000 + now[2], (tonumber(redis.call('GET', KEYS[2])) or 0) + 1)
local digits = string.format('%.0f', sequence)
redis.call('SET', KEYS[2], digits)
redis.call('SET', KEYS[3], digits, 'PX', ARGV[1])
redis.call('SET', KEYS[1], run_id)
return 1
