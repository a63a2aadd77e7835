-- ARGV[3] "1" when anyone may delete, [4] "1" when what is under no claim may go, [5] how many claims follow,
-- the claims, then ids. Answers the ids deleted.
local _, more = settle()
if more then
  return AGAIN
end
local anyone, unclaimed = ARGV[3] == '1', ARGV[4] == '1'
local claims, first = {}, 6 + tonumber(ARGV[5])
for number = 6, first - 1 do
  claims[ARGV[number]] = true
end
local deleted, free, taken, ended = {}, {}, {}, {}
local asked = {}
for number = first, #ARGV do
  asked[#asked + 1] = ARGV[number]
end
for number, known in ipairs(gather('HMGET', state, asked)) do
  local id = asked[number]
  if known or call('HEXISTS', content, id) == 1 then -- there is no state without a message
    local claim = claim_of(known)
    if claim == '' then
      if unclaimed or anyone then
        free[#free + 1], deleted[#deleted + 1] = id, id
      end
    elseif claims[claim] or anyone then
      taken[#taken + 1], deleted[#deleted + 1] = id, id
      ended[claim] = (ended[claim] or 0) + 1
    end
  end
end
if #taken > 0 then
  several('ZREM', held, taken)
  several('ZREM', lapses, taken)
  several('HDEL', content, taken)
  several('HDEL', state, taken)
  several('ZREM', expiry, taken)
  for claim, amount in pairs(ended) do
    local ttl, grace, since, due, before, last = parse(call('HGET', leases, claim))
    if tonumber(before) > amount then
      local left = string.format('%d', before - amount)
      call('HSET', leases, claim, table.concat({ttl, grace, since, due, left, last}, ' '))
    else
      call('HDEL', leases, claim)
    end
  end
  call('HINCRBY', tally, 'total', -#taken)
  call('HINCRBY', tally, 'held', -#taken)
  tidy()
end
if #free > 0 then
  drop(free)
end
return deleted
