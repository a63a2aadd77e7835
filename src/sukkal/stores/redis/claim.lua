-- ARGV[3] how many, [4] claim, [5] ttl, [6] grace, [7] since, [8] due, [9] and [10] the ttl and the expiry of
-- what would expire before that, [11] name of this call, the same when it is repeated.
-- Answers ids, contents and states of what was handed out.
local _, more = settle()
if more then
  return AGAIN
end
local limit, claim, ttl, grace, since, due = tonumber(ARGV[3]), unpack(ARGV, 4, 8)
local longer, later, this = ARGV[9], ARGV[10], ARGV[11]
local amount, last = '0', nil
local lease = call('HGET', leases, claim)
if lease then
  ttl, grace, since, due, amount, last = parse(lease)
end
if last == this then -- done before, only the answer was lost
  local its, states = under(claim, due)
  local ids, of_ids = {}, {}
  for number, id in ipairs(its) do
    if string.match(states[number], '^%S+ %S+ %S+ %S+ (%S+)') == this then
      ids[#ids + 1], of_ids[#ids + 1] = id, states[number]
    end
  end
  return {ids, gather('HMGET', content, ids), of_ids}
end
local rows = call('ZPOPMIN', ready, limit)
if #rows == 0 then
  return {{}, {}, {}}
end
local ids, places, dues = {}, {}, {}
for number = 1, #rows, 2 do
  ids[#ids + 1] = rows[number]
  places[number], places[number + 1] = rows[number + 1], rows[number]
  dues[number], dues[number + 1] = due, rows[number]
end
local states, ends = gather('HMGET', state, ids), nil
if call('ZCOUNT', expiry, '-inf', '(' .. due) > 0 then -- of the whole queue; else none of these is to outlive itself
  ends = gather('ZMSCORE', expiry, ids)
end
local kept, extended = {}, {}
for number, id in ipairs(ids) do
  local known = states[number]
  if known then
    local claims, rest = string.match(known, '^(%S+) (%S+ %S+ %S+) ')
    known = string.format('%d', claims + 1) .. ' ' .. rest .. ' ' .. this .. ' ' .. claim
  else
    known = '1 - - 0 ' .. this .. ' ' .. claim
  end
  if ends and tonumber(ends[number]) < tonumber(due) then
    known = outlived(known, longer, later)
    extended[#extended + 1] = later
    extended[#extended + 1] = id
  end
  states[number] = known
  kept[2 * number - 1], kept[2 * number] = id, known
end
several('ZADD', held, places)
several('ZADD', lapses, dues)
several('HSET', state, kept)
several('ZADD', expiry, extended)
call('HSET', leases, claim, table.concat({ttl, grace, since, due, string.format('%d', amount + #ids), this}, ' '))
call('HINCRBY', tally, 'held', #ids)
call('ZADD', agenda, 'LT', due, queue)
return {ids, gather('HMGET', content, ids), states}
