-- ARGV[3] the place to go on from, [4] how many, [5] and [6] "1" to show held and delayed ones too, [7] the
-- beginning of what the client posted that is to be left out, or "". Answers ids, contents, states, and the
-- place to go on from when what is left out made the look too long, else "".
local WINDOW = 2000 -- messages looked at in one call
local _, more = settle()
if more then
  return AGAIN
end
local after, limit, without = ARGV[3], tonumber(ARGV[4]), ARGV[7]
if without == '' and ARGV[5] ~= '1' and ARGV[6] ~= '1' then -- the places stand in the contents
  local ids = call('ZRANGEBYSCORE', ready, '(' .. after, '+inf', 'LIMIT', 0, limit)
  return {ids, gather('HMGET', content, ids), gather('HMGET', state, ids), ''}
end
local sources = {ready}
if ARGV[5] == '1' then
  sources[#sources + 1] = held
end
if ARGV[6] == '1' then
  sources[#sources + 1] = delayed
end

-- The next messages in order: ids and their places.
local function following(amount)
  local places, order = {}, {}
  for _, source in ipairs(sources) do
    local rows = call('ZRANGEBYSCORE', source, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, amount)
    for number = 1, #rows, 2 do
      order[#order + 1] = rows[number]
      places[rows[number]] = rows[number + 1]
    end
  end
  if #sources > 1 then
    table.sort(order, function(one, other) return tonumber(places[one]) < tonumber(places[other]) end)
    for number = #order, amount + 1, -1 do
      order[number] = nil
    end
  end
  return order, places
end

local function left_out(body)
  if without == '' then
    return false
  end
  local start = string.find(body, ' ', 1, true) + 1
  return string.sub(body, start, start + #without - 1) == without
end

local ids, bodies, looked, portion = {}, {}, 0, limit
while true do
  local found, places = following(portion)
  local contents = gather('HMGET', content, found)
  for number, id in ipairs(found) do
    after = places[id]
    if #ids < limit and not left_out(contents[number]) then
      ids[#ids + 1], bodies[#bodies + 1] = id, contents[number]
    end
  end
  looked = looked + #found
  if #found < portion or #ids == limit then
    return {ids, bodies, gather('HMGET', state, ids), ''}
  end
  if looked >= WINDOW then
    return {ids, bodies, gather('HMGET', state, ids), after}
  end
  portion = math.max(50, math.min(2 * portion, 500)) -- many are left out
end
