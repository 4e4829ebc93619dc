-- Read what a room's history holds after a position. Makes the room if it is new, so that it has an epoch.
-- KEYS: room, history. ARGV: epoch for a new room, room ttl in ms, epoch of the position ('' for none), its offset,
-- most events to return. Returns epoch, offset of the room, 1 if nothing is missing, {offset, frame, ...}.
if redis.call('HSETNX', KEYS[1], 'epoch', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'offset', 0)
  redis.call('DEL', KEYS[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local epoch = redis.call('HGET', KEYS[1], 'epoch')
local offset = tonumber(redis.call('HGET', KEYS[1], 'offset'))
local after = tonumber(ARGV[4])
if ARGV[3] ~= epoch or after > offset then
  return {epoch, offset, 0, {}}
end
if after == offset then
  return {epoch, offset, 1, {}}
end
local events = {}
local first = string.format('%d-0', after + 1)
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], first, '+', 'COUNT', ARGV[5])) do
  events[#events + 1] = tonumber(string.match(entry[1], '^%d+'))
  events[#events + 1] = entry[2][4]
end
if events[1] ~= after + 1 then
  return {epoch, offset, 0, {}}
end
return {epoch, offset, 1, events}
