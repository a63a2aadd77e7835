-- ARGV[3] claim. Answers the lease, and ids, contents and states of what it holds, in no order; nil if none.
local _, more = settle()
if more then
  return AGAIN
end
local lease = call('HGET', leases, ARGV[3])
if not lease then
  return false
end
local _, _, _, due = parse(lease)
local ids, states = under(ARGV[3], due)
return {lease, ids, gather('HMGET', content, ids), states}
