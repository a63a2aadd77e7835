-- ARGV[3] claim, [4] ttl, [5] grace, [6] since, [7] due, [8] and [9] the ttl and the expiry of what would
-- expire before that. Answers 1, or 0 when no such lease is live.
local _, more = settle()
if more then
  return AGAIN
end
local claim, ttl, grace, since, due, longer, later = unpack(ARGV, 3, 9)
local lease = call('HGET', leases, claim)
if not lease then
  return 0
end
local _, _, _, before, amount, last = parse(lease)
local ids, states = under(claim, before)
local ends = gather('ZMSCORE', expiry, ids)
local dues, kept, extended = {}, {}, {}
for number, id in ipairs(ids) do
  dues[2 * number - 1], dues[2 * number] = due, id
  if tonumber(ends[number]) < tonumber(due) then
    kept[#kept + 1] = id
    kept[#kept + 1] = outlived(states[number], longer, later)
    extended[#extended + 1] = later
    extended[#extended + 1] = id
  end
end
several('ZADD', lapses, dues)
several('HSET', state, kept)
several('ZADD', expiry, extended)
call('HSET', leases, claim, table.concat({ttl, grace, since, due, amount, last}, ' '))
call('ZADD', agenda, 'LT', due, queue)
return 1
