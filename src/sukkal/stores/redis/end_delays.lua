while true do
  local ids = call('ZRANGE', delayed, 0, STEP - 1)
  if #ids == 0 then
    return 1
  end
  local states, rows = call('HMGET', state, unpack(ids)), {}
  for number, id in ipairs(ids) do
    local claims = states[number] and string.match(states[number], '^%S+') or '0'
    rows[2 * number - 1], rows[2 * number] = id, claims .. ' - - 1 - '
  end
  call('HSET', state, unpack(rows))
  give_back(ids, delayed, arrivals)
end
