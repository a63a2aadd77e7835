-- KEYS[13] is there when somebody follows the queue, and the channel for that; KEYS[14] the note on it.
-- ARGV[3] where a new sequence starts, ARGV[4] the kind of note the caller has seen to, then for each message: id,
-- content, expires, when its delay ends or "", claims so far. A message whose id is there already is left alone.
-- Answers the note. When that is of another kind nothing is stored.
local followed = KEYS[13]
local note = call('GET', KEYS[14])
if note and string.sub(note, 1, 1) ~= ARGV[4] then
  return note
end
local amount = (#ARGV - 4) / 5
local told = call('EXISTS', followed) == 1
local fresh = call('EXISTS', content) == 0
local place = call('INCRBY', sequence, amount) - amount
if fresh then
  if place == 0 then
    place = tonumber(ARGV[3])
    call('SET', sequence, string.format('%.0f', place + amount))
  else
    call('PERSIST', sequence)
  end
end
local added, soonest = 0, nil
local expiries, readies = {}, {}
for first = 5, #ARGV, 5 do
  local id, body, expires, visible, claims = unpack(ARGV, first, first + 4)
  place = place + 1
  local written = string.format('%.0f', place)
  if call('HSETNX', content, id, written .. ' ' .. body) == 1 then
    added = added + 1
    expiries[#expiries + 1], expiries[#expiries + 2] = expires, id
    local due = expires
    if visible == '' then
      readies[#readies + 1], readies[#readies + 2] = written, id
    else
      call('ZADD', delayed, written, id)
      call('ZADD', arrivals, visible, id)
      if tonumber(visible) < tonumber(expires) then
        due = visible
      end
    end
    if claims ~= '0' then
      call('HSET', state, id, claims .. ' - - 0 - ')
    end
    if told then
      call('PUBLISH', followed, #id .. ' ' .. id .. written .. ' ' .. body)
    end
    if not soonest or tonumber(due) < tonumber(soonest) then
      soonest = due
    end
  end
end
if added > 0 then
  several('ZADD', expiry, expiries)
  several('ZADD', ready, readies)
  call('HINCRBY', tally, 'total', added)
  call('ZADD', agenda, 'LT', soonest, queue)
end
return note
