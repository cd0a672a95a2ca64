-- How many jobs are running in each room that has any: rooms and numbers in turn.
local counts = {}
for _, room in ipairs(call('HKEYS', P .. 'rooms')) do
  local number = call('HLEN', P .. 'running:' .. room)
  if number > 0 then
    counts[#counts + 1] = room
    counts[#counts + 1] = number
  end
end
return {'ok', counts}
