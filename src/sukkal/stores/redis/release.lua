-- ARGV[3] claim. Answers 1, or 0 when no such lease is live.
local _, more = settle()
if more then
  return AGAIN
end
local lease = call('HGET', leases, ARGV[3])
if not lease then
  return 0
end
local _, _, _, due = parse(lease)
let_go(under(ARGV[3], due))
call('HDEL', leases, ARGV[3])
return 1
