-- Ended jobs of a room, ARGV[4], newest first, at most ARGV[8]: those of a connid, ARGV[5], of a run,
-- ARGV[6], and with ends below a seq, ARGV[7], where these are not empty.
local room, connid, run, before, limit = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local seqs = {}
if run ~= '' then
  local state = call('HGET', P .. 'runs:' .. room, run)
  seqs = {state and string.match(state, '^%d+') or nil}
elseif connid ~= '' then
  local most = before == '' and '[' .. connid .. '\0\255'
    or '(' .. connid .. '\0' .. string.format('%016d', before)
  local found = call('ZREVRANGEBYLEX', P .. 'ended:' .. room, most, '[' .. connid .. '\0', 'LIMIT', 0, limit)
  for _, item in ipairs(found) do
    seqs[#seqs + 1] = string.format('%d', string.sub(item, -16))
  end
else
  local most = before == '' and '+inf' or '(' .. before
  seqs = call('ZREVRANGEBYSCORE', P .. 'ends:' .. room, most, '-inf', 'LIMIT', 0, limit)
end
local jobs = {}
for _, seq in ipairs(seqs) do
  jobs[#jobs + 1] = ended_row(room, seq)
end
return {'ok', jobs}
