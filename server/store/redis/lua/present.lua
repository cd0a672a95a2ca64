-- A node, ARGV[4], says who of its clients is in a room, ARGV[5]: ARGV[6] of them, ARGV[7] in words.
local node, room = ARGV[4], ARGV[5]
-- A node that has left, or is held to be dead, says it again when it lives.
if not call('ZSCORE', P .. 'nodes', node) then
  return {'gone'}
end
regardless_of_memory()
if ARGV[6] == '0' then
  call('HDEL', P .. 'presence:' .. room, node)
  call('SREM', P .. 'here:' .. node, room)
else
  call('HSET', P .. 'presence:' .. room, node, ARGV[7])
  call('SADD', P .. 'here:' .. node, room)
end
return {'ok', tell('presence ' .. room .. ' 0', node .. ' ' .. ARGV[7])}
