-- Number an event, keep it in the room's history, send it to the hubs: all or nothing.
-- KEYS: room, history. ARGV: channel, event id, "1" if it may have been published before, epoch for a new room,
-- start of the frame, history size, history ttl in ms, room ttl in ms. Returns the offset.
if ARGV[3] == '1' then
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-')) do
    if entry[2][2] == ARGV[2] then
      return tonumber(string.match(entry[1], '^%d+'))
    end
  end
end
if redis.call('HSETNX', KEYS[1], 'epoch', ARGV[4]) == 1 then
  redis.call('DEL', KEYS[2])
end
local epoch = redis.call('HGET', KEYS[1], 'epoch')
local offset = redis.call('HINCRBY', KEYS[1], 'offset', 1)
local number = string.format('%d', offset)
local frame = ARGV[5] .. ',"offset":' .. number .. '}'
redis.call('PEXPIRE', KEYS[1], ARGV[8])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], number .. '-0', 'id', ARGV[2], 'frame', frame)
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call('PUBLISH', ARGV[1], epoch .. ':' .. number .. ':' .. frame)
return offset
