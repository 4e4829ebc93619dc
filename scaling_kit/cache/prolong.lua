-- Say that a transaction which has marked these tags is still committing. Marks that are gone stay gone: its bump may
-- have come before this call.
-- KEYS: tag, ... ARGV: lifetime of a tag in ms, token of the transaction, µs from now until nobody waits for it.
local mark = ';' .. ARGV[2] .. '='
local deadline = string.format('%.0f', now + tonumber(ARGV[3]))
for i = 1, #KEYS do
  local value = redis.call('GET', KEYS[i])
  if value and string.find(value, mark, 1, true) then
    redis.call('SET', KEYS[i], string.gsub(value, mark .. '%d+', mark .. deadline), 'PX', ARGV[1])
  end
end
return 1
