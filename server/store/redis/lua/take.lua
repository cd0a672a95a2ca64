-- Give a node the jobs that are due, at most ARGV[4]; to others they are due ARGV[5] seconds later. ARGV[6]
-- are the seconds of silence after which leases begin anew.
regardless_of_memory()
local silence = tonumber(ARGV[6])
if revive(silence) then
  begin_leases_anew()
end
local due, gone = {}, {}
for _, member in ipairs(call('ZRANGEBYSCORE', P .. 'due', '-inf', instant(now), 'LIMIT', 0, ARGV[4])) do
  local value = running_as(member)
  local _, _, deadline = parts(value or '')
  local renewed, node = renewal(member)
  if not value then
    call('ZREM', P .. 'due', member)
    call('HDEL', P .. 'renewed', member)
    gone[#gone + 1] = member
  elseif node ~= '' and tonumber(deadline) > now and not heard(node, silence) then
    -- What its owner has said since may lie in the sockets of a node that stands still.
    begin_lease_anew(member)
  else
    due[#due + 1] = {value, renewed}
    call('ZADD', P .. 'due', instant(now + tonumber(ARGV[5])), member)
  end
end
local next = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')[2] or ''
local meta = call('HMGET', P .. 'meta', 'opened_at', 'feed')
return {'ok', next, meta[1] or '0', due, tonumber(meta[2] or '0'), gone}
