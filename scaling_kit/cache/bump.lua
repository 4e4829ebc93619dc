-- Write down that what these tags stand for has changed. KEYS: sequence, tag, ... ARGV: lifetime of a tag in ms.
-- Returns the sequence. It is the server's clock in µs, so that a sequence lost with Redis's data starts anew above
-- every number ever given; a counter would start again and match old entries.
local now = redis.call('TIME')
local sequence = math.max(now[1] * 1000000 + now[2], (tonumber(redis.call('GET', KEYS[1])) or 0) + 1)
local digits = string.format('%.0f', sequence)
redis.call('SET', KEYS[1], digits)
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], digits, 'PX', ARGV[1])
end
return digits
