-- Keep what a job has printed, and tell the nodes of it.
--
-- ARGV[4] to ARGV[6] are the room, the connid and the run; ARGV[7] is the text and ARGV[8] how many
-- characters that is; ARGV[9] is how many bytes are kept, ARGV[10] for how many seconds. ARGV[11] is
-- the node, ARGV[12] its number for this, and ARGV[13] when it is too late. ARGV[14] is who must own
-- the job, if somebody must.
local room, connid, run = ARGV[4], ARGV[5], ARGV[6]
local text, length = ARGV[7], tonumber(ARGV[8])
local key = P .. 'printed:' .. room .. ':' .. run

local value = call('HGET', P .. 'running:' .. room, connid)
local _, current, _, _, job = parts(value or '')
if current ~= run then
  job = ended_job(room, connid, run)
end
if not job then
  return {'stale', value or '', value and call('HGET', P .. 'progress:' .. room, connid) or ''}
end
local by = foreign_to(ARGV[14], job)
if by then
  return {'foreign', by}
end
if text == '' then
  return {'ok'}
end
-- Asked for again, as the answer was lost; or too late, when it may have been answered `unavailable`.
local said = 'said:' .. ARGV[11]
if tonumber(call('HGET', key, said) or '0') >= tonumber(ARGV[12]) then
  return {'ok'}
elseif clock > tonumber(ARGV[13]) then
  return {'late', instant(clock)}
end

local sums = call('HMGET', key, 'end', 'size', 'first', 'last')
local offset, size = tonumber(sums[1] or '0'), tonumber(sums[2] or '0') + #text
local first, last = tonumber(sums[3] or '1'), tonumber(sums[4] or '0')
-- Little by little is joined: each text costs Redis more than its own length.
local begun = last >= first and call('HGET', key, last)
if begun and #begun < tonumber(ARGV[9]) / 64 then
  call('HSET', key, last, begun .. text)
else
  last = last + 1
  call('HSET', key, last, offset .. '\n' .. text)
end
while first < last and size > tonumber(ARGV[9]) do
  size = size - #string.match(call('HGET', key, first), '^%d+\n(.*)$')
  call('HDEL', key, first)
  first = first + 1
end
call('HSET', key, 'end', offset + length, 'size', size, 'first', first, 'last', last, said, ARGV[12])
call('EXPIRE', key, ARGV[10])
return {'ok', tell('printed ' .. room .. ' 0', offset .. ' ' .. run .. ' ' .. connid)}
