-- ARGV from [3] on: ids. Answers their contents and states.
local _, more = settle()
if more then
  return AGAIN
end
local ids = {unpack(ARGV, 3, math.min(#ARGV, 2 + PORTION))}
for number = 3 + PORTION, #ARGV do
  ids[#ids + 1] = ARGV[number]
end
return {gather('HMGET', content, ids), gather('HMGET', state, ids)}
