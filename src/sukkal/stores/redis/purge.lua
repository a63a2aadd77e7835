-- The keys are unlinked, which costs the same for any size: Redis frees them beside its work.
local total, taken = call('HLEN', content), call('ZCARD', held)
if total > 0 then
  call('HINCRBY', tally, 'total', -total)
  if taken > 0 then -- Redis takes no -0
    call('HINCRBY', tally, 'held', -taken)
  end
  call('UNLINK', content, ready, held, delayed, lapses, arrivals, expiry, state, leases)
  tidy()
end
return total
