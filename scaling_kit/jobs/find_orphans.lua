-- Look for started jobs whose worker is silent; name those that have been suspected for long enough.
-- KEYS: holder of the lease, started jobs, queue, suspects (member → since when).
-- ARGV: token, RQ's prefix, prefix of the workers' signs of life, seconds of suspicion before we are sure.
-- Returns {{job id, execution id, worker}, ...}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {}
end
local prefix, alive_prefix, patience = ARGV[2], ARGV[3], tonumber(ARGV[4])
local STOCK_PATIENCE = 60
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function suspected_for(member)
  redis.call('ZADD', KEYS[4], 'NX', now, member)
  return now - redis.call('ZSCORE', KEYS[4], member)
end

local orphans = {}
local started = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for i = 1, #started, 2 do
  local composite, score = started[i], tonumber(started[i + 1])
  local execution = redis.call('HMGET', prefix .. ':execution:' .. composite, 'worker_name', 'supervised')
  local worker = execution[1] or ''
  local alive = execution[1] and score > now  -- a stock RQ worker beats by moving the score
  if execution[2] then
    alive = redis.call('EXISTS', alive_prefix .. worker) == 1
  end
  if alive then
    redis.call('ZREM', KEYS[4], composite)
  elseif suspected_for(composite) >= patience then
    local id, execution_id = string.match(composite, '^([^:]+):(.+)$')
    table.insert(orphans, {id, execution_id, worker})
  end
end

-- A stock RQ worker that listens to one queue parks an id here between its pop and its start.
for _, id in ipairs(redis.call('LRANGE', KEYS[3] .. ':intermediate', 0, -1)) do
  local status = redis.call('HGET', prefix .. ':job:' .. id, 'status')
  if status ~= 'queued' then
    redis.call('ZREM', KEYS[4], 'intermediate:' .. id)
  elseif suspected_for('intermediate:' .. id) >= STOCK_PATIENCE then
    redis.call('ZREM', KEYS[4], 'intermediate:' .. id)
    redis.call('LREM', KEYS[3] .. ':intermediate', 1, id)
    redis.call('LPUSH', KEYS[3], id)
  end
end
-- Who was suspected and has been gone ever since (it ended by itself) is forgotten.
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - 3600)
redis.call('EXPIRE', KEYS[4], 3600)
return orphans
