-- Exchange a refresh token's secret for the next one, if it is its turn.
-- KEYS: session, epoch of the session. ARGV: hash of the secret shown, hash of the next one, the next one sealed,
-- grace in ms, lifetime of an unused session in ms, how long its end must be remembered in ms.
-- Returns {'rotated', the sealed successor} or {a code of refusals.py, ''}.
local session = redis.call('HMGET', KEYS[1], 'current', 'previous', 'rotated_at_ms', 'sealed', 'ends_at_ms')
local current, previous, rotated_at, sealed, ends_at = unpack(session)
if not current then
  return {'refresh_invalid', ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == current then
  redis.call('HSET', KEYS[1], 'current', ARGV[2], 'previous', current, 'rotated_at_ms', now, 'sealed', ARGV[3])
  redis.call('PEXPIREAT', KEYS[1], math.min(now + ARGV[5], tonumber(ends_at)))
  return {'rotated', ARGV[3]}
end
if ARGV[1] == previous and now - rotated_at <= tonumber(ARGV[4]) then
  return {'rotated', sealed}
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], 1, 'PX', ARGV[6])
return {'refresh_reused', ''}
