-- The events of a room, ARGV[4], after a seq, ARGV[5]; none where not all are kept of the last
-- ARGV[6] events.
local room, after = ARGV[4], tonumber(ARGV[5])
local seq = seq_of(room)
local kept = math.min(call('XLEN', P .. 'log:' .. room), tonumber(ARGV[6]))
if after < seq - kept then
  return {'gone'}
end
return {'ok', call('XRANGE', P .. 'log:' .. room, (after + 1) .. '-0', '+')}
