-- The job that is running in a room, ARGV[4], under a connid, ARGV[5], and its last report.
local member = ARGV[4] .. ':' .. ARGV[5]
local value = call('ZSCORE', P .. 'due', member) and running_as(member)
return {'ok', value or '', value and call('HGET', P .. 'progress:' .. ARGV[4], ARGV[5]) or ''}
