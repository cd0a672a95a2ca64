-- Give a node the jobs that are due, at most ARGV[4]; to others they are due ARGV[5] seconds later. ARGV[6]
-- are the seconds of silence after which leases begin anew.
regardless_of_memory()
if revive(tonumber(ARGV[6])) then
  begin_leases_anew()
end
local due = {}
for _, member in ipairs(call('ZRANGEBYSCORE', P .. 'due', '-inf', instant(now), 'LIMIT', 0, ARGV[4])) do
  local room, connid = string.match(member, '^([^:]*):(.*)$')
  local value = call('HGET', P .. 'running:' .. room, connid)
  due[#due + 1] = {value, call('HGET', P .. 'renewed', member) or ''}
  call('ZADD', P .. 'due', instant(now + tonumber(ARGV[5])), member)
end
local next = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')[2] or ''
local meta = call('HMGET', P .. 'meta', 'opened_at', 'feed')
return {'ok', next, meta[1] or '0', due, tonumber(meta[2] or '0')}
