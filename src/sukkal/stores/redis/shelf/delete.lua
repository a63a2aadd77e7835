-- ARGV[3] name. Answers 1, or 0 when there is no such record.
if call('HEXISTS', records, ARGV[3]) == 0 then
  return 0
end
drop({ARGV[3]})
return 1
