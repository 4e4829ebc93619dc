-- Say that a transaction which changed what these tags stand for is about to commit.
-- KEYS: sequence, tag, ... ARGV: lifetime of a tag in ms, token of the transaction, µs until nobody waits for it.
local mark = ';' .. ARGV[2] .. '='
local deadline = string.format('%.0f', now + tonumber(ARGV[3]))
local sequence = redis.call('GET', KEYS[1]) or next_number(KEYS[1])
for i = 2, #KEYS do
  local value = redis.call('GET', KEYS[i]) or sequence
  if not string.find(value, mark, 1, true) then
    redis.call('SET', KEYS[i], value .. mark .. deadline, 'PX', ARGV[1])
  end
end
return 1
