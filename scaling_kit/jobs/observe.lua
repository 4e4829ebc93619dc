-- Look how long jobs have waited, and which workers have one in hand. Changes nothing.
-- KEYS: set of paused queues, then the queues' lists. ARGV: RQ's prefix, workers.
-- Returns {now, jobs waiting, {when the first of each list was enqueued}, {busy workers}}.
local prefix = ARGV[1]
local waiting, heads, busy = 0, {}, {}

local function look(list)
  waiting = waiting + redis.call('LLEN', list)
  local id = redis.call('LINDEX', list, 0)
  local enqueued_at = id and redis.pcall('HGET', prefix .. ':job:' .. id, 'enqueued_at')
  if type(enqueued_at) == 'string' then
    table.insert(heads, enqueued_at)
  end
end

local function is_paused(queue)
  local name = string.sub(queue, #prefix + 8)  -- without 'rq:queue:'
  return redis.call('SISMEMBER', KEYS[1], name) == 1 or redis.call('EXISTS', prefix .. ':suspended') == 1
end

for i = 2, #KEYS do
  if not is_paused(KEYS[i]) then
    look(KEYS[i])
    for _, priority in ipairs(redis.call('SMEMBERS', KEYS[i] .. ':priorities')) do
      look(KEYS[i] .. ':p' .. priority)
    end
  end
end
for i = 2, #ARGV do
  if redis.call('EXISTS', prefix .. ':worker:' .. ARGV[i] .. ':executions') == 1 then
    table.insert(busy, ARGV[i])
  end
end
local time = redis.call('TIME')
return {time[1] .. '.' .. string.format('%06d', time[2]), waiting, heads, busy}
