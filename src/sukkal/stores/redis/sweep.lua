-- Settles what time has brought, and writes on the agenda when to look again. Answers how much was done, 1 when
-- there is more, and how many messages have expired that no sweep has told of, whichever call dropped them.
local done, more = settle()
local expired = tonumber(call('HGET', tally, queue) or 0)
if expired > 0 then
  call('HDEL', tally, queue)
end
if more then
  return {done, 1, expired}
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
return {done, 0, expired}
