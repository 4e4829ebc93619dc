-- KEYS: record, index, totals, stem of the history's slots. ARGV: id, ttl in ms, number of fields, field, value, ..., counter, amount, ...
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local first_counter = 4 + 2 * tonumber(ARGV[3])
redis.call('DEL', KEYS[1])
for i = 4, first_counter - 1, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('HSET', KEYS[1], 'beat_at', string.format('%.3f', now_ms / 1000)) -- the clocks of hosts differ
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now_ms, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms - ARGV[2])
local slot = KEYS[4] .. ':' .. string.format('%d', now[1] - now[1] % 10)
for i = first_counter, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[3], ARGV[i], ARGV[i + 1])
  redis.call('HINCRBY', slot, ARGV[i], ARGV[i + 1])
end
if first_counter < #ARGV then
  redis.call('EXPIRE', slot, 1260)
end
return now_ms
