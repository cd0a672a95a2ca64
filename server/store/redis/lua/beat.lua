-- A node, ARGV[4], says that it lives, for ARGV[5] seconds; ARGV[6] counts how often it has. ARGV[7] are the
-- seconds of silence after which leases begin anew, and ARGV[8] is the date at the node.
regardless_of_memory()
local me, deaf = ARGV[4], tonumber(ARGV[5])

-- Whether a node's lease is over, by Redis's clock and by the time, where that is known.
local function over(node, until_clock)
  local beat = ARGV[2] ~= '' and last_beat(node)
  return until_clock <= clock and not (beat and now - beat <= deaf)
end

local lived, others = false, false
local nodes = call('ZRANGE', P .. 'nodes', 0, -1, 'WITHSCORES')
for place = 1, #nodes, 2 do
  local node, until_clock = nodes[place], tonumber(nodes[place + 1])
  if until_clock > clock + deaf then
    -- Redis's clock was set back: for as long the node would not be missed.
    call('ZADD', P .. 'nodes', instant(clock + deaf), node)
  end
  if node == me then
    lived = not over(node, until_clock)
  elseif over(node, until_clock) then
    forget(node)
  else
    others = true
  end
end
if ARGV[2] == '' and others then
  -- The time is that of the last sign of life, and what has passed since; they go on to tell it.
  local since = clock - tonumber(call('HGET', P .. 'meta', 'beat_clock') or clock)
  now = now + math.max(0, math.min(since, deaf))
elseif ARGV[2] == '' then
  -- Nobody knows the time: the date is all there is.
  now = math.max(now, tonumber(ARGV[8]))
end
local silence = tonumber(ARGV[7])
local silent = revive(silence)
if not lived and not others then
  -- No node was there: what has come due was missed, and nobody could renew a lease.
  call('HSET', P .. 'meta', 'opened_at', instant(now))
  begin_leases_anew()
elseif silent then
  begin_leases_anew()
elseif not heard(me, silence) then
  -- It has stood still, and has yet to read what its owners have said meanwhile.
  begin_leases_anew(me)
end
call('ZADD', P .. 'nodes', instant(clock + deaf), me)
call('HSET', P .. 'beats', me, instant(now) .. ' ' .. instant(clock))
tell('beat - 0', me .. ' ' .. ARGV[6] .. ' ' .. instant(now))
return {
  'ok',
  number,
  instant(clock),
  call('EXISTS', P .. 'here:' .. me),
  call('ZRANGE', P .. 'nodes', 0, -1),
  call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')[2] or '',
  instant(now),
}
