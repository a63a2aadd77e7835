-- Stands before every script that works on a queue. What the keys hold: layout.py.
-- ARGV[1] is the queue's name on the agenda, ARGV[2] the time of the call, "" where it plays no part.
--
-- A server whose memory is full refuses the first write of a script if it takes memory, and none after that.
-- So scripts that hand out or take out begin with a write that frees some: a full queue can be emptied.
local content, ready, held, delayed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lapses, arrivals, expiry = KEYS[5], KEYS[6], KEYS[7]
local state, leases, sequence = KEYS[8], KEYS[9], KEYS[10]
local agenda, tally = KEYS[11], KEYS[12]
local queue, now = ARGV[1], ARGV[2]
local call = redis.call

local STEP = 500 -- messages settled at a time: one or two milliseconds
local PORTION = 1000 -- arguments that surely fit on Lua's stack; even, for lists of pairs
local RETAINED = 86400 -- seconds the sequence of an empty queue is kept; after that it starts from the time
local AGAIN = redis.status_reply('AGAIN') -- there is more to settle first: call again

-- A command for a list of any length; the sum of its answers.
local function several(command, key, list)
  if #list <= PORTION then
    return #list == 0 and 0 or call(command, key, unpack(list))
  end
  local sum = 0
  for first = 1, #list, PORTION do
    sum = sum + call(command, key, unpack(list, first, math.min(first + PORTION - 1, #list)))
  end
  return sum
end

-- A reading command for a list of any length; its answers in one list, false for what is absent.
local function gather(command, key, list)
  if #list <= PORTION then
    return #list == 0 and {} or call(command, key, unpack(list))
  end
  local answers = {}
  for first = 1, #list, PORTION do
    for _, answer in ipairs(call(command, key, unpack(list, first, math.min(first + PORTION - 1, #list)))) do
      answers[#answers + 1] = answer
    end
  end
  return answers
end

-- State of a message: "claims ttl expires undelayed call claim", see layout.py.
local function claim_of(known)
  return known and string.match(known, '^%S+ %S+ %S+ %S+ %S+ (.*)$') or ''
end

local function without_claim(known)
  return string.match(known, '^%S+ %S+ %S+ %S+') .. ' - '
end

-- Put messages back among the ready ones, each at its old place.
local function give_back(ids, from, timetable)
  local places, rows = gather('ZMSCORE', from, ids), {}
  for number, id in ipairs(ids) do
    rows[2 * number - 1], rows[2 * number] = places[number], id
  end
  several('ZREM', from, ids)
  several('ZREM', timetable, ids)
  several('ZADD', ready, rows)
end

-- End the hold on messages whose states these are; nothing is said of their lease.
local function let_go(ids, states)
  local rows = {}
  for number, id in ipairs(ids) do
    rows[2 * number - 1], rows[2 * number] = id, without_claim(states[number])
  end
  give_back(ids, held, lapses)
  several('HSET', state, rows)
  call('HINCRBY', tally, 'held', -#ids)
end

-- To be called when messages were taken out. An empty queue leaves nothing behind but, for a while, its
-- sequence, on which the order of markers rests; and what the sweep is still to tell of.
local function tidy()
  if call('EXISTS', content) == 0 then
    if call('HEXISTS', tally, queue) == 0 then
      call('ZREM', agenda, queue)
    end
    call('EXPIRE', sequence, RETAINED)
  end
end

-- Take messages out for good that are under no lease.
local function drop(ids)
  several('HDEL', content, ids)
  several('HDEL', state, ids)
  several('ZREM', expiry, ids)
  if several('ZREM', ready, ids) < #ids then
    several('ZREM', delayed, ids)
    several('ZREM', arrivals, ids)
  end
  call('HINCRBY', tally, 'total', -#ids)
  tidy()
end

-- Do what time has brought: lapsed leases give back, ended delays too, expired messages go. Afterwards
-- `ready` is exactly what can be claimed and `held` exactly what is under live leases. Answers how much was
-- done, and whether there is more; then no other answer may be given yet.
local function settle()
  local done = 0
  local ids = call('ZRANGEBYSCORE', lapses, '-inf', now, 'LIMIT', 0, STEP)
  if #ids > 0 then
    local states, ended = call('HMGET', state, unpack(ids)), {}
    for _, known in ipairs(states) do
      ended[claim_of(known)] = true
    end
    let_go(ids, states)
    for claim in pairs(ended) do
      call('HDEL', leases, claim)
    end
    done = #ids
  end
  if done < STEP then
    ids = call('ZRANGEBYSCORE', arrivals, '-inf', now, 'LIMIT', 0, STEP - done)
    if #ids > 0 then
      give_back(ids, delayed, arrivals)
      done = done + #ids
    end
  end
  if done < STEP then
    -- No lease is live on these: a claim makes what it takes last as long as the lease at least.
    ids = call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, STEP - done)
    if #ids > 0 then
      drop(ids)
      call('HINCRBY', tally, queue, #ids)
      call('ZADD', agenda, now, queue) -- the sweep is to tell of them
      done = done + #ids
    end
  end
  return done, done == STEP
end

-- The messages under a live lease, with their states, in no order.
local function under(claim, due)
  local ids = call('ZRANGEBYSCORE', lapses, due, due) -- other leases may end at the same moment
  local states, its, of_its = gather('HMGET', state, ids), {}, {}
  for number, id in ipairs(ids) do
    if claim_of(states[number]) == claim then
      its[#its + 1], of_its[#its + 1] = id, states[number]
    end
  end
  return its, of_its
end

-- A lease: "ttl grace since due held call", see layout.py.
local function parse(lease)
  return string.match(lease, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
end

-- What a longer lease makes of the state of a message that would expire under it.
local function outlived(known, ttl, expires)
  local claims, undelayed, rest = string.match(known, '^(%S+) %S+ %S+ (%S+) (.*)$')
  return table.concat({claims, ttl, expires, undelayed, rest}, ' ')
end

