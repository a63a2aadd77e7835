-- ARGV[3] name, [4] value, [5] the version to replace or "", [6] expires or "", [7] name of this call, the
-- same when it is repeated, [8] the least new version. Answers the version, nil when another is there.
local _, more = settle()
if more then
  return AGAIN
end
local name, value, expect, expires, this = unpack(ARGV, 3, 7)
local present, last = '0', nil
local record = call('HGET', records, name)
if record then
  present, last = string.match(record, '^(%S+) %S+ (%S+) ')
end
if last == this then -- done before, only the answer was lost
  return present
end
if expect ~= '' and expect ~= present then
  return false
end
local version = tonumber(call('GET', versions) or 0) + 1
local least = tonumber(ARGV[8])
version = string.format('%.0f', version > least and version or least)
call('SET', versions, version)
call('HSET', records, name, table.concat({version, expires == '' and '-' or expires, this, value}, ' '))
call('ZADD', names, 0, name)
if expires ~= '' then
  call('ZADD', ends, expires, name)
  call('ZADD', agenda, 'LT', expires, shelf)
else
  call('ZREM', ends, name)
end
return version
