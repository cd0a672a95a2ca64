-- The events of one run, ARGV[6], of a connid, ARGV[5], in a room, ARGV[4].
local room, run = ARGV[4], ARGV[6]
local seqs = {}
local state = call('HGET', P .. 'runs:' .. room, run)
local current = call('HGET', P .. 'running:' .. room, ARGV[5])
if state then
  local ended, start, rest = string.match(state, '^(%d+) %S+ (%d+)(.*)$')
  local stopped, amended = string.match(rest, '^ (%S+) %S+ %S+(.*)$')
  for _, seq in ipairs({start, ended, stopped or '-', string.sub(amended or '', 2)}) do
    if tonumber(seq) then
      seqs[#seqs + 1] = seq
    end
  end
elseif current then
  local start, known = parts(current)
  seqs = known == run and {start} or {}
end
for seq in string.gmatch(#seqs > 0 and call('HGET', P .. 'extended:' .. room, run) or '', '%d+') do
  seqs[#seqs + 1] = seq
end
table.sort(seqs, function(one, other) return tonumber(one) < tonumber(other) end)
local events = {}
for _, seq in ipairs(seqs) do
  local kind, _, _, body = entry(room, seq)
  if kind then
    events[#events + 1] = {kind, body}
  end
end
return {'ok', events}
