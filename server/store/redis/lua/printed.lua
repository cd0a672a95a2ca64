-- What is kept of what a run, ARGV[5], of a room, ARGV[4], has printed: each text with how many
-- characters came before it.
local key = P .. 'printed:' .. ARGV[4] .. ':' .. ARGV[5]
local ends = call('HMGET', key, 'first', 'last')
local texts = {}
for place = tonumber(ends[1] or '1'), tonumber(ends[2] or '0') do
  texts[#texts + 1] = call('HGET', key, place)
end
return {'ok', texts}
