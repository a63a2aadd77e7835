-- KEYS[13] the receipt of this call, ARGV[3] how many. Answers ids, contents and states of what was taken
-- out. The receipt answers a repeated call alike; the caller removes it as soon as it has the answer.
local RECEIPT = 30 -- seconds a receipt is kept when its caller never came back
local receipt = call('GET', KEYS[13])
if receipt then
  return cmsgpack.unpack(receipt)
end
local _, more = settle()
if more then
  return AGAIN
end
local ids = call('ZRANGE', ready, 0, ARGV[3] - 1)
if #ids == 0 then
  return {{}, {}, {}}
end
local popped = {ids, gather('HMGET', content, ids), gather('HMGET', state, ids)}
drop(ids)
call('SET', KEYS[13], cmsgpack.pack(popped), 'EX', RECEIPT)
return popped
