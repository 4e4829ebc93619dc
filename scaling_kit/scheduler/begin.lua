-- The leader takes over: read the watermarks, and start new schedules now.
-- KEYS: lease, state of each schedule. ARGV: token, state ttl in s, number of enabled schedules (they come first).
-- Returns nil to anyone but the leader, else {watermark, job key} for each enabled schedule.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return nil
end
local now = redis.call('TIME')[1]
local enabled = tonumber(ARGV[3])
local found = {}
for i = 2, #KEYS do
  if i - 1 <= enabled then
    redis.call('HSETNX', KEYS[i], 'tick', now)
    redis.call('EXPIRE', KEYS[i], ARGV[2])
    local state = redis.call('HMGET', KEYS[i], 'tick', 'job_key')
    found[i - 1] = {state[1], state[2] or ''}
  else
    redis.call('HDEL', KEYS[i], 'tick')  -- once enabled again it starts then: its pause is not made up for
  end
end
return found
