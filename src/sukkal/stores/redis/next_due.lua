-- Answers the first time after now at which something held or delayed becomes visible, or nil.
local soonest = false
for _, timetable in ipairs({lapses, arrivals}) do
  local rows = call('ZRANGEBYSCORE', timetable, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 20)
  for number = 1, #rows, 2 do
    local due = rows[number + 1]
    -- What ends before it becomes visible is passed over, but for very many of them.
    if tonumber(call('ZSCORE', expiry, rows[number])) > tonumber(due) or number == 39 then
      if not soonest or tonumber(due) < tonumber(soonest) then
        soonest = due
      end
      break
    end
  end
end
return soonest
