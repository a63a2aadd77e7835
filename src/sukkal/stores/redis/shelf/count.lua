local _, more = settle()
if more then
  return AGAIN
end
return call('HLEN', records)
