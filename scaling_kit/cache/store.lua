-- Store an entry unless what it was computed from may have changed since.
-- KEYS: sequence, entry, claim, tag, ...
-- ARGV: sequence before the computation, entry, its lifetime in ms, lifetime of a tag in ms, and how many µs a bump must
-- have been ago for a lagging replica to have shown it when it was read from; 0 without replicas.
-- Returns 1 if stored.
local sequence = redis.call('GET', KEYS[1])
local current = sequence and 1 or 0
local latest = tonumber(ARGV[1])
if tonumber(ARGV[5]) > 0 then
  latest = math.min(latest, now - ARGV[5])
end
for i = 4, #KEYS do
  local bumped = value_of(KEYS[i], KEYS[1], ARGV[4])
  if not bumped and sequence then
    -- Never bumped, or expired or evicted since. Whether that bump was before the computation is unknown, unless
    -- nothing at all was bumped meanwhile: the last number given says so.
    bumped = sequence
    redis.call('SET', KEYS[i], bumped, 'PX', ARGV[4])
  elseif redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[i], ARGV[4])
  end
  -- What is not a number is a commit in flight.
  if not tonumber(bumped or '') or tonumber(bumped) > latest then
    current = 0
  end
end
if current == 1 then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
  redis.call('DEL', KEYS[3])  -- whoever holds it: nobody has to wait any more
end
return current
