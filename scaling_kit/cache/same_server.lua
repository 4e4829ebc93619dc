-- A server that was restarted or failed over may have lost the last bumps: then no entry counts any more.
-- KEYS: run id, sequence, epoch tag. ARGV: lifetime of a tag in ms. Returns 1 if it is another server than before.
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if redis.call('GET', KEYS[1]) == run_id then
  return 0
end
redis.call('SET', KEYS[3], next_number(KEYS[2]), 'PX', ARGV[1])
redis.call('SET', KEYS[1], run_id)
return 1
