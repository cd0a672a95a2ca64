-- A node, ARGV[4], says that it lives, for ARGV[5] seconds; ARGV[6] counts how often it has.
regardless_of_memory()
for _, node in ipairs(call('ZRANGEBYSCORE', P .. 'nodes', '-inf', instant(clock))) do
  if node ~= ARGV[4] then
    forget(node)
  end
end
local score = call('ZSCORE', P .. 'nodes', ARGV[4])
local lived = score and tonumber(score) > clock
if not lived and call('ZCARD', P .. 'nodes') == (score and 1 or 0) then
  -- No node was there: what has come due was missed, and nobody could renew a lease.
  call('HSET', P .. 'meta', 'opened_at', instant(now))
  local renewed = call('HKEYS', P .. 'renewed')
  for _, member in ipairs(renewed) do
    local room, connid = string.match(member, '^([^:]*):(.*)$')
    local _, _, deadline, lease = parts(call('HGET', P .. 'running:' .. room, connid))
    call('HSET', P .. 'renewed', member, instant(now))
    call('ZADD', P .. 'due', instant(math.min(tonumber(deadline), now + tonumber(lease))), member)
  end
end
call('ZADD', P .. 'nodes', instant(clock + tonumber(ARGV[5])), ARGV[4])
local number = tell('beat - 0', ARGV[4] .. ' ' .. ARGV[6])
return {
  'ok',
  number,
  instant(clock),
  call('EXISTS', P .. 'here:' .. ARGV[4]),
  call('ZRANGE', P .. 'nodes', 0, -1),
  call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')[2] or '',
}
