-- Append a line to a job's log, and tell who listens.
-- KEYS: log, channel of the job's events. ARGV: seconds to keep it, how many lines, event as a JSON object, message.
local time = redis.call('TIME')
local told = cjson.decode(ARGV[3])
told.at, told.message = time[1] + time[2] / 1000000, ARGV[4]
told.entry = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'message', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('PUBLISH', KEYS[2], cjson.encode(told))
return told.entry
