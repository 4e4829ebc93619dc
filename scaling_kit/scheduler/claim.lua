-- Claim one tick of a schedule, and enqueue its job with it: all or nothing.
-- KEYS: lease, state, history, job of the tick before ('' if none) [, job, queue, queues, bell ('' if none)]
-- ARGV: token, tick, job id, history length, state ttl in s, job key, what to do about an overlap: allow, skip, hold
--       [, queue name, field, value, ...]
-- Returns {outcome, watermark}. A claim repeated by its claimant (the reply was lost) is answered 'mine'.
local token, tick, job_id, overlap = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[7]
local state = redis.call('HMGET', KEYS[2], 'tick', 'claimed_by', 'job_id')
local watermark = tonumber(state[1] or 0)
if watermark == tick and state[2] == token then
  return {state[3] == job_id and 'mine' or 'overlapped', watermark}
end
if redis.call('GET', KEYS[1]) ~= token then
  return {'fenced', watermark}
end
if watermark >= tick then
  return {'passed', watermark}
end

local status = overlap ~= 'allow' and KEYS[4] ~= '' and redis.call('HGET', KEYS[4], 'status')
local over = {finished = true, failed = true, stopped = true, canceled = true}
local overlaps = status and not over[status]
if overlaps and overlap == 'hold' then
  return {'held', watermark}
end

redis.call('HSET', KEYS[2], 'tick', tick, 'claimed_by', token)
redis.call('EXPIRE', KEYS[2], ARGV[5])
if overlaps then
  redis.call('HINCRBY', KEYS[2], 'overlapped', 1)
  return {'overlapped', tick}
end

if #KEYS > 4 then
  redis.call('HSET', KEYS[5], unpack(ARGV, 9))
  redis.call('SADD', KEYS[7], ARGV[8])
  redis.call('RPUSH', KEYS[6], job_id)
  if KEYS[8] ~= '' then
    redis.call('LPUSH', KEYS[8], '1')
    redis.call('LTRIM', KEYS[8], 0, 0)
    redis.call('EXPIRE', KEYS[8], 60)
  end
end
local now = redis.call('TIME')
local run_at = now[1] .. '.' .. string.format('%06d', now[2])
redis.call('HSET', KEYS[2], 'job_id', job_id, 'job_key', ARGV[6], 'run_at', run_at)
redis.call('HINCRBY', KEYS[2], 'runs', 1)
redis.call('ZADD', KEYS[3], tick, job_id)
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[5])
return {'claimed', tick}
