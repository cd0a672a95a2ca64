-- The state of a room, ARGV[4], and the number of the feed at which it is that; the ARGV[5] jobs that
-- ended last, newest first; and whether it has a log.
local room = ARGV[4]
local ended = {}
for _, seq in ipairs(call('ZREVRANGE', P .. 'ends:' .. room, 0, tonumber(ARGV[5]) - 1)) do
  ended[#ended + 1] = ended_row(room, seq)
end
return {
  'ok',
  tonumber(call('HGET', P .. 'meta', 'feed') or '0'),
  seq_of(room),
  call('HVALS', P .. 'running:' .. room),
  call('HGETALL', P .. 'progress:' .. room),
  ended,
  call('HGETALL', P .. 'presence:' .. room),
  call('HEXISTS', P .. 'rooms', room),
}
