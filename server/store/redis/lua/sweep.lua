-- Look at some of the rooms, from a cursor, ARGV[4], on, and evict those in which nothing is running,
-- which nobody is in, and whose last event is older than ARGV[5] seconds: the next cursor, and how many
-- there were. What their jobs have printed is forgotten when its own time has come.
local found = call('HSCAN', P .. 'rooms', ARGV[4], 'COUNT', 100)
local floor = tonumber(call('HGET', P .. 'meta', 'floor') or '0')
local before = now - tonumber(ARGV[5])
local rooms = {}
for item = 1, #found[2], 2 do
  local room, seq = found[2][item], found[2][item + 1]
  if call('EXISTS', P .. 'running:' .. room, P .. 'presence:' .. room) == 0 then
    local _, _, _, body = entry(room, seq)
    if body and tonumber(string.match(body, '^[^:]*:[^:]*:%d+,"at":([%d.]+)')) < before then
      for _, kind in ipairs({'log', 'ends', 'ended', 'runs', 'keys', 'progress', 'extended'}) do
        call('UNLINK', P .. kind .. ':' .. room)
      end
      call('HDEL', P .. 'rooms', room)
      floor = math.max(floor, tonumber(seq) + 1)
      rooms[#rooms + 1] = room
    end
  end
end
if #rooms > 0 then
  call('HSET', P .. 'meta', 'floor', floor)
  tell('emptied - 0', floor .. ' ' .. table.concat(rooms, ' '))
end
return {'ok', found[1], #rooms}
