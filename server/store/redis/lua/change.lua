-- Check a change and make it, whole or not at all.
--
-- ARGV[4] to ARGV[6] are the node, its number for this change, and the turn in which it is sent: all
-- of earlier turns have been answered. ARGV[7] is when it is too late, ARGV[8] how many events a room keeps;
-- ARGV[9] to ARGV[11] are what to do, the room and the connid. The last one is who must own the job,
-- if somebody must.
local node, id, turn = ARGV[4], ARGV[5], ARGV[6]
local history = tonumber(ARGV[8])
local what, room, connid = ARGV[9], ARGV[10], ARGV[11]
local running, reports = P .. 'running:' .. room, P .. 'progress:' .. room
local keys = P .. 'keys:' .. room
local member = room .. ':' .. connid
local SLACK = 100
local NOTHING = '{"done":null,"note":null'

local done = P .. 'done:' .. node
local known = call('HMGET', done, 'turn', id)
if known[1] == turn and known[2] then
  return cmsgpack.unpack(known[2])
end
-- An earlier turn: it was sent before the connection was lost, and has been answered since.
if clock > tonumber(ARGV[7]) or (known[1] and tonumber(turn) < tonumber(known[1])) then
  return {'late', instant(clock)}
end

local function answer(reply)
  regardless_of_memory()
  if known[1] ~= turn then
    call('DEL', done)
    call('HSET', done, 'turn', turn)
    call('EXPIRE', done, 60)
  end
  call('HSET', done, id, cmsgpack.pack(reply))
  return reply
end

local function stale(value)
  return answer({'stale', value or '', value and call('HGET', reports, connid) or ''})
end

-- The refusal of who wants to change what is another one's job.
local function foreign(owner, job)
  local by = foreign_to(owner, job)
  return by and answer({'foreign', by})
end

-- The fields of keys:ROOM that lead to a run: for who used the key, and for anybody.
local function fields_of(of, key, by)
  local any = of .. '\0' .. key
  return any .. '\0' .. by, any
end

-- Forget which key has started a run, whose job this is.
local function forget_key(run, of, job)
  -- In no text is a quote without a backslash, so this is the job's own.
  if string.find(job, '"key":"', 1, true) then
    local whose = cjson.decode(job)
    for _, field in ipairs({fields_of(of, whose.key, whose.by)}) do
      if call('HGET', keys, field) == run then
        call('HDEL', keys, field)
      end
    end
  end
end

-- Cut a log back to what is kept, and with it what is known of the jobs that ended there; little by
-- little where HISTORY was much more before.
local function trim(log, length, seq)
  local surplus = math.min(length - history, 10 * SLACK)
  for _, item in ipairs(call('XRANGE', log, '-', '+', 'COUNT', surplus)) do
    local kind, run, of = string.match(item[2][2], '^(%S+) (%S+) ([^\n]*)\n')
    if kind == 'killed' or kind == 'finished' then
      local at = string.match(item[1], '^%d+')
      call('ZREM', P .. 'ended:' .. room, of .. '\0' .. string.format('%016d', at))
      call('HDEL', P .. 'runs:' .. room, run)
      call('HDEL', P .. 'extended:' .. room, run)
      forget_key(run, of, item[2][4])
    end
  end
  local last = seq - length + surplus
  call('ZREMRANGEBYSCORE', P .. 'ends:' .. room, '-inf', last)
  call('XTRIM', log, 'MINID', (last + 1) .. '-0')
end

-- Append an event to the room's log.
local function write(kind, run, rest, job, report)
  local log = P .. 'log:' .. room
  local seq = seq_of(room) + 1
  call('HSET', P .. 'rooms', room, seq)
  has_written = true
  local body = '{"room":"' .. room .. '","seq":' .. seq .. ',"at":' .. instant(now) .. ',' .. rest
  local text = kind .. ' ' .. run .. ' ' .. connid .. '\n' .. body
  if job then
    call('XADD', log, seq .. '-0', 'e', text, 'j', job, 'p', report)
  else
    call('XADD', log, seq .. '-0', 'e', text)
  end
  local length = call('XLEN', log)
  if length > history + SLACK then
    trim(log, length, seq)
  end
  return seq, {kind, seq, body, job, report}
end

local function schedule(deadline, lease)
  local due = deadline
  if lease ~= '-' then
    due = math.min(deadline, now + tonumber(lease))
    call('HSET', P .. 'renewed', member, instant(now) .. ' ' .. node)
  end
  call('ZADD', P .. 'due', instant(due), member)
end

local function finish(value, kind, before, after)
  local start, run, _, _, job = parts(value)
  local report = call('HGET', reports, connid) or ''
  local seq, event = write(kind, run, before .. '"run":"' .. run .. '"' .. after, job, report)
  call('HDEL', running, connid)
  call('HDEL', reports, connid)
  call('HDEL', P .. 'renewed', member)
  call('ZREM', P .. 'due', member)
  call('ZADD', P .. 'ends:' .. room, seq, seq)
  call('ZADD', P .. 'ended:' .. room, 0, connid .. '\0' .. string.format('%016d', seq))
  call('HSET', P .. 'runs:' .. room, run, seq .. ' ' .. kind .. ' ' .. start)
  return event
end

-- Put events into the feed: when all is done, as each says when the next job is due.
local function tell_all(events)
  local number
  for _, event in ipairs(events) do
    number = tell(event[1] .. ' ' .. room .. ' ' .. event[2], event[3])
  end
  return answer({'ok', number, events})
end

local function full(current)
  local total, most, rooms = tonumber(ARGV[19]), tonumber(ARGV[20]), tonumber(ARGV[21])
  if total > 0 and call('ZCARD', P .. 'due') >= total then
    return 'running'
  end
  if most > 0 and call('HLEN', running) >= most then
    return 'room'
  end
  if rooms > 0 and call('HEXISTS', P .. 'rooms', room) == 0
      and call('HLEN', P .. 'rooms') >= rooms then
    return 'rooms'
  end
end

local current = call('HGET', running, connid)
if not current and call('ZSCORE', P .. 'due', member) then
  regardless_of_memory()
  current = running_as(member)
end
-- A start is refused whole for want of memory, with the kill that it would begin with.
if what ~= 'start' then
  regardless_of_memory()
end

-- That a run has been started before: running, or ended and still kept.
local function again(run)
  if current and select(2, parts(current)) == run then
    return answer({'again', current, call('HGET', reports, connid) or ''})
  end
  local state = call('HGET', P .. 'runs:' .. room, run)
  if state then
    local row = ended_row(room, string.match(state, '^%d+'))
    return row and answer({'again', unpack(row)})
  end
end

if what == 'start' then
  local run, time, lease, before, after = ARGV[12], ARGV[13], ARGV[14], ARGV[15], ARGV[16]
  local key, by, owned = ARGV[22], ARGV[23], ARGV[24]
  local events = {}
  local of_owner, of_any
  if key then
    of_owner, of_any = fields_of(connid, key, by)
    local known = call('HGET', keys, owned and of_owner or of_any)
    local repeated = known and again(known)
    if repeated then
      return repeated
    end
  end
  if current and ARGV[17] == '' then
    return stale(current)
  elseif current then
    events[1] = finish(current, 'killed', ARGV[17], ARGV[18])
  else
    local cap = full()
    if cap then
      return answer({'full', cap})
    end
  end
  local deadline = now + tonumber(time)
  local times = '"started_at":' .. instant(now) .. ',"deadline":' .. instant(deadline)
  local job = before .. times .. after
  local seq, event = write('started', run, '"job":' .. job .. '}')
  local head = seq .. ' ' .. run .. ' ' .. instant(deadline) .. ' ' .. lease
  call('HSET', running, connid, head .. ' ' .. job)
  schedule(deadline, lease)
  if key then
    call('HSET', keys, of_owner, run, of_any, run)
  end
  events[#events + 1] = event
  return tell_all(events)
end

-- How a run has ended: "killed", or the outcome with which it finished.
local function ended_as(state, run, body)
  if string.match(state, '^%d+ killed ') then
    return 'killed'
  end
  -- Its own, as what users wrote comes after it, or has no quote without a backslash.
  local _, last = string.find(body, '"run":"' .. run .. '","outcome":"', 1, true)
  return string.match(body, '^%a+', last + 1)
end

if what == 'stop' or what == 'amend' then
  local run, before, after, exit = ARGV[12], ARGV[13], ARGV[14], ARGV[15]
  local job, state, body = ended_job(room, connid, run)
  if not job then
    return stale(current)
  end
  local how = ended_as(state, run, body)
  local stop, amended = string.match(state, '^%S+ %S+ %S+ (%S+ %S+ %S+)(.*)$')
  local allowed = how == 'lost' and (not stop or amended == '')
  if what == 'stop' then
    allowed = not stop and how ~= 'done' and how ~= 'failed'
  end
  if not allowed then
    return stale(current)
  end
  local refusal = foreign(ARGV[16], job)
  if refusal then
    return refusal
  end
  local kind = what == 'stop' and 'stopped' or 'amended'
  local seq, event = write(kind, run, before .. '"run":"' .. run .. '"' .. after)
  -- Writing may have cut the log, and the end with it.
  if call('HEXISTS', P .. 'runs:' .. room, run) == 1 then
    if what == 'stop' then
      state = state .. ' ' .. seq .. ' ' .. exit .. ' ' .. instant(now)
    else
      state = state .. (stop and ' ' or ' - - - ') .. seq
    end
    call('HSET', P .. 'runs:' .. room, run, state)
    event = {event[1], event[2], event[3], unpack(ended_row(room, string.match(state, '^%d+')))}
  end
  return tell_all({event})
end

-- What remains concerns one running job: of the run that is named, if one is.
local expected = ARGV[12]
if not current then
  return stale(current)
end
local _, run, deadline, lease, job = parts(current)
if expected ~= '' and expected ~= run then
  return stale(current)
end

if what == 'end' then
  -- As lost only while it is: its owner may have been heard since it was taken. So with its time.
  local renewed = ARGV[16] == 'lost' and tonumber((renewal(member)))
  local until_at = ARGV[16] == 'elapsed' and tonumber(deadline) or renewed and renewed + tonumber(lease)
  if until_at and until_at > now then
    return stale(current)
  end
  return foreign(ARGV[17], job) or tell_all({finish(current, ARGV[13], ARGV[14], ARGV[15])})
end

if what == 'extend' then
  local more, most, known, same = tonumber(ARGV[13]), tonumber(ARGV[14]), ARGV[15], tonumber(ARGV[16])
  local before, after = ARGV[17], ARGV[18]
  local was = tonumber(deadline)
  local time = tonumber(string.match(job, '"state":"running","time":([^,]+)')) + more
  if time > most or known ~= '' and math.abs(tonumber(known) - was) >= same then
    return stale(current)
  end
  local value, extended = extend(current, time, was + more)
  call('HSET', running, connid, value)
  local renewed = tonumber((renewal(member)))
  local due = renewed and math.min(was + more, renewed + tonumber(lease)) or was + more
  call('ZADD', P .. 'due', instant(due), member)
  local times = ',"time":' .. instant(time) .. ',"deadline":' .. instant(was + more)
  local seq, event = write('extended', run, before .. '"run":"' .. run .. '"' .. times .. after)
  local moves = {seq}
  for move in string.gmatch(call('HGET', P .. 'extended:' .. room, run) or '', '%d+') do
    -- Else a run that is given little again and again would fill the memory.
    moves[#moves + 1] = tonumber(move) > seq - history - SLACK and move or nil
  end
  call('HSET', P .. 'extended:' .. room, run, table.concat(moves, ' '))
  event[4], event[5] = extended, call('HGET', reports, connid) or ''
  return tell_all({event})
end

-- A report.
local refusal = foreign(ARGV[15], job)
if refusal then
  return refusal
end
if lease ~= '-' then
  schedule(tonumber(deadline), lease)
end
local seq = call('HGET', P .. 'rooms', room)
-- Without a word, or with those of the last one, it only renews the lease.
local said, known = ARGV[13], call('HGET', reports, connid) or ''
local same = string.match(string.sub(known, #said + 1), '^[,}]') and string.sub(known, 1, #said) == said
if same or said == NOTHING then
  return answer({'ok', number, {}, tonumber(seq)})
end
call('HSET', reports, connid, said .. ',"at":' .. instant(now) .. '}')
local body = '{"room":"' .. room .. '","at":' .. instant(now) .. ',' .. ARGV[14]
return answer({'ok', tell('progress ' .. room .. ' ' .. seq, body), {}, tonumber(seq)})
