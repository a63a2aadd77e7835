-- KEYS[13] the note on the queue, ARGV[3] the one to put there. Its first letter, the kind, stays when it is later
-- in the alphabet.
local there, note = call('GET', KEYS[13]), ARGV[3]
if there and string.sub(there, 1, 1) > string.sub(note, 1, 1) then
  note = string.sub(there, 1, 1) .. string.sub(note, 2)
end
call('SET', KEYS[13], note)
