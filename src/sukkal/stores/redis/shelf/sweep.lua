-- Drops what has expired, and writes on the agenda when to look again. Answers how much was dropped, and 1
-- when there is more.
local done, more = settle()
if more then
  return {done, 1}
end
local row = call('ZRANGE', ends, 0, 0, 'WITHSCORES')
if #row > 0 then
  call('ZADD', agenda, row[2], shelf)
else
  call('ZREM', agenda, shelf)
end
return {done, 0}
