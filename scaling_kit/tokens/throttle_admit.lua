-- Admit an attempt under all limits, or under none. (GCRA: `limit` attempts at once, then one each window / limit.)
-- KEYS: one per limit; each holds the time, in ms, at which it will be as if nothing had been attempted.
-- ARGV: window in ms, limit, limit, ... Returns 0 if admitted, otherwise the ms until it would be.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window = tonumber(ARGV[1])
local free_at, wait = {}, 0
for i, name in ipairs(KEYS) do
  free_at[i] = math.max(now, tonumber(redis.call('GET', name) or 0)) + math.max(1, math.floor(window / ARGV[i + 1]))
  wait = math.max(wait, free_at[i] - now - window)
end
if wait > 0 then
  return wait
end
for i, name in ipairs(KEYS) do
  redis.call('SET', name, free_at[i], 'PX', free_at[i] - now)
end
return 0
