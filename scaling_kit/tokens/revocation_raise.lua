-- KEYS: epochs. ARGV: epoch, lifetime in ms (0: for ever), ... An epoch never goes down.
for i, name in ipairs(KEYS) do
  local epoch, lifetime = ARGV[2 * i - 1], tonumber(ARGV[2 * i])
  local known = redis.call('GET', name)
  if not known or tonumber(known) < tonumber(epoch) then
    redis.call('SET', name, epoch)
  end
  if lifetime > 0 then
    redis.call('PEXPIRE', name, lifetime)
  end
end
return 1
