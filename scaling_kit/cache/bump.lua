-- Write down that what these tags stand for has changed, and release the marks of those who have committed.
-- KEYS: sequence, tag, ... ARGV: lifetime of a tag in ms, token, ... Returns the sequence.
local released = {}
for i = 2, #ARGV do
  released[ARGV[i]] = true
end
local number = next_number(KEYS[1])
for i = 2, #KEYS do
  -- Others may be committing just now: their marks stay.
  redis.call('SET', KEYS[i], number .. marks_of(redis.call('GET', KEYS[i]), released), 'PX', ARGV[1])
end
return number
