-- Settles what time has brought, and writes on the agenda when to look again. Answers how much was done, and
-- 1 when there is more.
local done, more = settle()
if more then
  return {done, 1}
end
local soonest = nil
for _, timetable in ipairs({lapses, arrivals, expiry}) do
  local row = call('ZRANGE', timetable, 0, 0, 'WITHSCORES')
  if #row > 0 and (not soonest or tonumber(row[2]) < tonumber(soonest)) then
    soonest = row[2]
  end
end
if soonest then
  call('ZADD', agenda, soonest, queue)
else
  call('ZREM', agenda, queue)
end
return {done, 0}
