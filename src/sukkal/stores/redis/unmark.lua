-- KEYS[13] the note on the queue, ARGV[3] what it must say to be taken away. Answers whether it was.
if call('GET', KEYS[13]) ~= ARGV[3] then
  return 0
end
return call('DEL', KEYS[13])
