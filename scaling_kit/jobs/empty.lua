-- Delete jobs that wait in a queue, those first that would run first.
-- ARGV after those of whereabouts.lua: how many at most. Returns {how many, {rate limit, id, ...}}.
local base, left, limited = queue_key(asked_queue, '0'), tonumber(ARGV[FIRST]), {}

local priorities = {0}
for _, priority in ipairs(redis.call('SMEMBERS', base .. ':priorities')) do
  table.insert(priorities, tonumber(priority))
end
table.sort(priorities, function(a, b) return a > b end)

local removed = 0
for _, priority in ipairs(priorities) do
  for _, id in ipairs(left > 0 and redis.call('LPOP', queue_key(asked_queue, string.format('%d', priority)), left) or {}) do
    local job = find(id)
    if job and job.status == 'queued' then
      forget(job)
      removed = removed + 1
      if job.rate_limit ~= '' then
        table.insert(limited, job.rate_limit)
        table.insert(limited, id)
      end
    end
    left = left - 1
  end
end
return {removed, limited}
