-- Bump those of these tags that were marked by transactions of which nothing was heard until the deadline.
-- KEYS: sequence, tag, ... ARGV: lifetime of a tag in ms.
for i = 2, #KEYS do
  value_of(KEYS[i], KEYS[1], ARGV[1])
end
return 1
