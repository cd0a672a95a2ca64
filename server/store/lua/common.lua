-- What every script begins with.
--
-- KEYS[1] is what all keys begin with; its hash tag keeps them in one slot of a cluster.
-- ARGV[1] is the epoch that the node knows, ARGV[2] the time where a test sets it, ARGV[3] how many
-- entries the feed keeps. What a script answers begins with "ok", or with why it did nothing.
--
--   meta            epoch; feed: the last number of the feed; opened_at: when the first node came;
--                   floor: the seq at which a room without a log stands, above that of every log that
--                   was let go of
--   feed            a stream: all that the nodes have to hear, numbered without holes
--   rooms           the seq of each room that has a log
--   due             each running job, as ROOM:CONNID, by the time at which it is due
--   renewed         when the lease of a job was last renewed, for the jobs that have one
--   nodes           each node by the time at which its lease ends
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
--   runs:ROOM       by run: seq and kind of its end, seq of its start; seq, exit and time of stopped
local P = KEYS[1]
local call = redis.call
if call('HGET', P .. 'meta', 'epoch') ~= ARGV[1] then
  return {'epoch'}
end
local TIME = call('TIME')
local clock = tonumber(TIME[1]) + tonumber(TIME[2]) / 1e6
local now = tonumber(ARGV[2]) or clock

local function instant(at)
  return string.format('%.6f', at)
end

-- Go on also when Redis is out of memory. A script that has written may write on, in 6.2 too, which knows
-- no flags for it; to delete what is not there is to write. It is for what ends jobs, keeps the nodes
-- together, or only answers.
local function regardless_of_memory()
  call('UNLINK', P .. 'nothing')
end

-- Put something into the feed, with the time at which the next job is due.
local function tell(head, body)
  local next = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')[2] or ''
  local number = call('HINCRBY', P .. 'meta', 'feed', 1)
  local text = head .. ' ' .. next .. '\n' .. body
  call('XADD', P .. 'feed', 'MAXLEN', '~', ARGV[3], number .. '-0', 'e', text)
  return number
end

-- The seq at which a room stands.
local function seq_of(room)
  return tonumber(call('HGET', P .. 'rooms', room) or call('HGET', P .. 'meta', 'floor') or '0')
end

-- Let go of a node that has left or died.
local function forget(node)
  for _, room in ipairs(call('SMEMBERS', P .. 'here:' .. node)) do
    call('HDEL', P .. 'presence:' .. room, node)
  end
  call('DEL', P .. 'here:' .. node, P .. 'done:' .. node)
  call('ZREM', P .. 'nodes', node)
  tell('gone - 0', node)
end

-- The parts of a running job as running:ROOM keeps it: seq of the start, run, deadline, lease, job.
local function parts(value)
  return string.match(value, '^(%d+) (%S+) (%S+) (%S+) (.*)$')
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

-- The job that has ended in a room as a run of a connid, and what is known of that run.
local function ended_job(room, connid, run)
  local state = call('HGET', P .. 'runs:' .. room, run)
  if state then
    local _, _, of, _, job = entry(room, string.match(state, '^%d+'))
    if of == connid then
      return job, state
    end
  end
end

-- Whose a job is, where an owner is named and it is not that one's.
local function foreign_to(owner, job)
  if owner then
    local by = cjson.decode(job).by
    return by ~= owner and by
  end
end
