-- Stands before every script that works on a shelf of documents. What the keys hold: layout.py.
-- ARGV[1] is the shelf's name on the agenda, ARGV[2] the time of the call, "" where it plays no part.
local records, names, ends, versions, agenda = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local shelf, now = ARGV[1], ARGV[2]
local call = redis.call

local STEP = 500 -- records dropped at a time
local RETAINED = 86400 -- seconds the versions of an empty shelf go on being counted
local AGAIN = redis.status_reply('AGAIN') -- there is more to settle first: call again

local function drop(gone)
  call('HDEL', records, unpack(gone))
  call('ZREM', names, unpack(gone))
  call('ZREM', ends, unpack(gone))
  if call('EXISTS', records) == 0 then
    call('ZREM', agenda, shelf)
    call('EXPIRE', versions, RETAINED)
  end
end

-- Drop what has expired. Answers how much, and whether there is more; then no other answer may be given.
local function settle()
  local gone = call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, STEP)
  if #gone > 0 then
    drop(gone)
  end
  return #gone, #gone == STEP
end

