-- What every script begins with.
--
-- KEYS[1] is what all keys begin with; its hash tag keeps them in one slot of a cluster.
-- ARGV[1] is the epoch that the node knows, ARGV[2] the time by the node's clock, empty where it does
-- not know that of the others yet, ARGV[3] how many entries the feed keeps. What a script answers begins
-- with "ok", or with why it did nothing.
--
-- The time is the nodes': the latest that any of them has told. Redis's own clock may be set, and only
-- says how long a node was silent, and what has come too late.
--
--   meta            epoch; feed: the last number of the feed; now: the time as the feed came to it;
--                   opened_at: when the first node came; beat, beat_clock: when a node last gave a sign
--                   of life, by the time and by Redis's clock;
--                   floor: the seq at which a room without a log stands, above that of every log that
--                   was evicted
--   feed            a stream: all that the nodes have to hear, numbered without holes
--   rooms           the seq of each room that has a log
--   due             each running job, as ROOM:CONNID, by the time at which it is due
--   renewed         when the lease of a job was last renewed and the node through which, for the jobs
--                   that have one; without the node where it has begun anew since
--   nodes           each node by the time at which its lease ends, by Redis's clock
--   beats           when each node gave its last sign of life, by the time and by Redis's clock
--   here:NODE       the rooms that clients of a node are in
--   done:NODE       what a node's last changes were answered, in case it asks again
--   running:ROOM    by connid: seq of the start, run, deadline, lease or "-", the job
--   progress:ROOM   by connid: the last report
--   presence:ROOM   by node: who is in the room
--   log:ROOM        a stream: the events, numbered by their seq; an end with the job that it ended
--   ends:ROOM       the seq of each end
--   ended:ROOM      CONNID, a zero byte and the seq of each end, in this order
--   printed:ROOM:RUN  what a job has printed, by place: how many characters came before, the text;
--                   end: characters in all; size: bytes that are kept; first and last of the places;
--                   said:NODE: the last number of a node
--   keys:ROOM       by connid and key, with a zero byte between: the run that this has started last; by
--                   these and who used the key: that which this one has started
--   extended:ROOM   by run: the seq of each move of its deadline
--   runs:ROOM       by run: seq and kind of its end, seq of its start; then, where there are any, seq, exit
--                   and time of stopped, and seq of amended; "-" for a stopped that is not there
local P = KEYS[1]
local call = redis.call
local META = call('HMGET', P .. 'meta', 'epoch', 'feed', 'now')
if META[1] ~= ARGV[1] then
  return {'epoch'}
end
local TIME = call('TIME')
local clock = tonumber(TIME[1]) + tonumber(TIME[2]) / 1e6
-- A log without a time was written when Redis's clock was the time.
local now = math.max(tonumber(ARGV[2]) or 0, tonumber(META[3]) or META[2] and clock or 0)
local number = tonumber(META[2] or '0')

local function instant(at)
  return string.format('%.6f', at)
end

-- Go on also when Redis is out of memory. A script that has written may write on, in 6.2 too, which knows
-- no flags for it; to delete what is not there is to write. It is for what ends jobs, keeps the nodes
-- together, or only answers.
local has_written = false
local function regardless_of_memory()
  if not has_written then
    call('UNLINK', P .. 'nothing')
    has_written = true
  end
end

-- Put something into the feed, with the time at which the next job is due.
local function tell(head, body)
  local next = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')[2] or ''
  number = number + 1
  call('HSET', P .. 'meta', 'feed', number, 'now', instant(now))
  local text = head .. ' ' .. next .. '\n' .. body
  call('XADD', P .. 'feed', 'MAXLEN', '~', ARGV[3], number .. '-0', 'e', text)
  return number
end

-- The seq at which a room stands.
local function seq_of(room)
  return tonumber(call('HGET', P .. 'rooms', room) or call('HGET', P .. 'meta', 'floor') or '0')
end

-- Forget a node that has left or died.
local function forget(node)
  for _, room in ipairs(call('SMEMBERS', P .. 'here:' .. node)) do
    call('HDEL', P .. 'presence:' .. room, node)
  end
  call('DEL', P .. 'here:' .. node, P .. 'done:' .. node)
  call('ZREM', P .. 'nodes', node)
  call('HDEL', P .. 'beats', node)
  tell('gone - 0', node)
end

-- Note a sign of life of a node. Where none has given any for so many seconds, leases begin anew: nobody
-- could renew one. A clock alone that was set says nothing.
local function revive(silence)
  local beat = call('HMGET', P .. 'meta', 'beat', 'beat_clock')
  local silent = beat[1] and now - tonumber(beat[1]) > silence and clock - tonumber(beat[2]) > silence
  call('HSET', P .. 'meta', 'beat', instant(now), 'beat_clock', instant(clock))
  return silent
end

-- The parts of a running job as running:ROOM keeps it: seq of the start, run, deadline, lease, job.
local function parts(value)
  return string.match(value, '^(%d+) (%S+) (%S+) (%S+) (.*)$')
end

-- A running job, as running:ROOM keeps it, that may run for other seconds in all, until another deadline;
-- and the job alone. No text of a user's comes before its time but the connid, where quotes are escaped.
local function extend(value, time, deadline)
  local start, run, _, lease, job = parts(value)
  local before, between, after =
    string.match(job, '^(.-"state":"running","time":)[^,]+(,"started_at":[^,]+,"deadline":)[^,]+(,.*)$')
  local at = instant(deadline)
  job = before .. instant(time) .. between .. at .. after
  return table.concat({start, run, at, lease, job}, ' '), job
end

-- Put the running jobs of a room back that are due and whose key is gone, as after an eviction: each as its
-- start in the log tells it, and what has moved its deadline since.
local restored = {}
local function restore(room)
  if restored[room] then
    return
  end
  restored[room] = true
  for _, item in ipairs(call('XRANGE', P .. 'log:' .. room, '-', '+')) do
    local kind, run, connid, body = string.match(item[2][2], '^(%S+) (%S+) ([^\n]*)\n(.*)$')
    local due = kind == 'started' and call('ZSCORE', P .. 'due', room .. ':' .. connid)
    if due and call('HEXISTS', P .. 'runs:' .. room, run) == 0 then
      local job = string.sub(string.match(body, '"job":(.*)$'), 1, -2)
      local known = cjson.decode(job)
      local lease = known.lease == cjson.null and '-' or tostring(known.lease)
      local head = string.match(item[1], '^%d+') .. ' ' .. run .. ' ' .. instant(known.deadline) .. ' ' .. lease
      call('HSETNX', P .. 'running:' .. room, connid, head .. ' ' .. job)
    elseif kind == 'extended' then
      local value = call('HGET', P .. 'running:' .. room, connid)
      if value and select(2, parts(value)) == run then
        local moved = cjson.decode(body)
        call('HSET', P .. 'running:' .. room, connid, (extend(value, moved.time, moved.deadline)))
      end
    end
  end
end

-- The running job that is due as ROOM:CONNID; nil where it is gone, and its start too.
local function running_as(member)
  local room, connid = string.match(member, '^([^:]*):(.*)$')
  local value = call('HGET', P .. 'running:' .. room, connid)
  if not value then
    restore(room)
    value = call('HGET', P .. 'running:' .. room, connid)
  end
  return value
end

-- When a lease was last renewed, and the node through which; empty where there is none.
local function renewal(member)
  return string.match(call('HGET', P .. 'renewed', member) or '', '^(%S*) ?(%S*)$')
end

-- Count a lease from now on. Its node is forgotten: should that fall silent again before the owner is
-- heard, the lease does not begin anew once more.
local function begin_lease_anew(member)
  local value = running_as(member)
  if not value then
    return
  end
  local _, _, deadline, lease = parts(value)
  call('HSET', P .. 'renewed', member, instant(now))
  call('ZADD', P .. 'due', instant(math.min(tonumber(deadline), now + tonumber(lease))), member)
end

-- Count all leases from now on, or those alone that were renewed through a node.
local function begin_leases_anew(node)
  for _, member in ipairs(call('HKEYS', P .. 'renewed')) do
    if not node or select(2, renewal(member)) == node then
      begin_lease_anew(member)
    end
  end
end

-- When a node gave its last sign of life, by the time and by Redis's clock; nil where it is gone.
local function last_beat(node)
  local at, at_clock = string.match(call('HGET', P .. 'beats', node) or '', '^(%S+) (%S+)$')
  return tonumber(at), tonumber(at_clock)
end

-- Whether a node has given a sign of life within so many seconds. A clock alone that was set says nothing.
local function heard(node, silence)
  local at, at_clock = last_beat(node)
  return at and (now - at <= silence or clock - at_clock <= silence)
end

-- An entry of a log: its kind, run, connid and body; of an end also the job and its last report.
local function entry(room, seq)
  local found = call('XRANGE', P .. 'log:' .. room, seq .. '-0', seq .. '-0')[1]
  if not found then
    return nil
  end
  local fields = found[2]
  local kind, run, connid, body = string.match(fields[2], '^(%S+) (%S+) ([^\n]*)\n(.*)$')
  return kind, run, connid, body, fields[4], fields[6]
end

-- The job that has ended in a room as a run of a connid, what is known of that run, and its end.
local function ended_job(room, connid, run)
  local state = call('HGET', P .. 'runs:' .. room, run)
  if state then
    local _, _, of, body, job = entry(room, string.match(state, '^%d+'))
    if of == connid then
      return job, state, body
    end
  end
end

-- An end in a room as nodes are told of it: kind, body, the job and its last report, what is known of the
-- run, and the body of its amended; nil where it is not kept.
local function ended_row(room, seq)
  local kind, run, _, body, job, report = entry(room, seq)
  if kind then
    local state = call('HGET', P .. 'runs:' .. room, run) or ''
    local amended = string.match(state, '^%S+ %S+ %S+ %S+ %S+ %S+ (%d+)$')
    local amendment = amended and select(4, entry(room, amended)) or ''
    return {kind, body, job, report, state, amendment}
  end
end

-- Whose a job is, where an owner is named and it is not that one's.
local function foreign_to(owner, job)
  if owner then
    local by = cjson.decode(job).by
    return by ~= owner and by
  end
end
