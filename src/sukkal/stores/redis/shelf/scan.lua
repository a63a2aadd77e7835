-- ARGV[3] the name to go on behind, [4] how many. Answers names and records.
local _, more = settle()
if more then
  return AGAIN
end
local after = '(' .. ARGV[3]
local found = call('ZRANGEBYLEX', names, after, '+', 'LIMIT', 0, ARGV[4])
local listed = {}
for number, name in ipairs(found) do
  listed[number] = call('HGET', records, name)
end
return {found, listed}
