-- Answers the number of all messages and of held ones, then id and content of the first and of the last that
-- is not delayed; nothing for these two when there is none.
local _, more = settle()
if more then
  return AGAIN
end
local answer = {call('HLEN', content), call('ZCARD', held)}
for _, edge in ipairs({0, -1}) do
  local best, id = nil, nil
  for _, source in ipairs({ready, held}) do
    local row = call('ZRANGE', source, edge, edge, 'WITHSCORES')
    if #row > 0 then
      local place = tonumber(row[2])
      if not best or (edge == 0 and place < best) or (edge == -1 and place > best) then
        best, id = place, row[1]
      end
    end
  end
  if id then
    answer[#answer + 1] = id
    answer[#answer + 1] = call('HGET', content, id)
  end
end
return answer
