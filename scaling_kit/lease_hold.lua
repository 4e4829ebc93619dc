-- Acquire or renew. KEYS: holder, epoch. ARGV: token, ttl in ms, epoch to renew (0: any, or acquire).
-- Returns {epoch, Redis time in ms, how long the lease lasts in ms}; to anyone but the holder the epoch is 0.
local holder = redis.call('GET', KEYS[1])
local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local now_ms = math.floor(now_us / 1000)
local epoch = redis.call('GET', KEYS[2])
local wanted = tonumber(ARGV[3])
if holder == ARGV[1] and epoch and (wanted == 0 or wanted == tonumber(epoch)) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {tonumber(epoch), now_ms, tonumber(ARGV[2])}
end
if wanted ~= 0 or (holder and holder ~= ARGV[1]) then
  return {0, now_ms, redis.call('PTTL', KEYS[1])}
end
-- The epoch outlives its holders: it must never go back, so it has no expiry. Should it be lost with the rest of
-- Redis's data, the clock (in µs) starts it anew above every epoch ever given.
epoch = redis.call('INCR', KEYS[2])
if epoch < now_us then
  epoch = now_us
  redis.call('SET', KEYS[2], epoch)
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {epoch, now_ms, tonumber(ARGV[2])}
