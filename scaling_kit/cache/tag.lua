-- In front of every script that reads or writes the value of a tag: the number of its last bump and, while transactions
-- that changed it commit, a mark of each, `number;token=deadline;token=deadline`. Deadlines are µs of the server's clock.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- The server's clock in µs, so that a sequence lost with Redis's data starts anew above every number ever given; a
-- counter would start again and match old entries.
local function next_number(sequence_key)
  local number = math.max(now, (tonumber(redis.call('GET', sequence_key)) or 0) + 1)
  local digits = string.format('%.0f', number)
  redis.call('SET', sequence_key, digits)
  return digits
end

-- The marks that still count: not those whose deadline has passed, nor those of `released`, a set of tokens.
local function marks_of(value, released)
  local marks = ''
  for token, deadline in string.gmatch(value or '', ';([^;=]+)=(%d+)') do
    if not released[token] and tonumber(deadline) > now then
      marks = marks .. ';' .. token .. '=' .. deadline
    end
  end
  return marks
end

-- The value of a tag. If whoever marked it let every deadline pass, it may have committed: then it is bumped first.
local function value_of(tag_key, sequence_key, lifetime_ms)
  local value = redis.call('GET', tag_key)
  if value and not string.match(value, '^%d+$') and marks_of(value, {}) == '' then
    value = next_number(sequence_key)
    redis.call('SET', tag_key, value, 'PX', lifetime_ms)
  end
  return value
end
