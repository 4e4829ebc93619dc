-- Keep how far a job has come, and tell who listens.
-- KEYS: record, channel of its events. ARGV: seconds to keep it, event and progress, each as a JSON object.
local time = redis.call('TIME')
local at = time[1] + time[2] / 1000000
local told, progress = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
for field, value in pairs(progress) do
  told[field] = value
end
told.at, progress.at = at, at
redis.call('HSET', KEYS[1], 'progress', cjson.encode(progress))
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('PUBLISH', KEYS[2], cjson.encode(told))
return 1
