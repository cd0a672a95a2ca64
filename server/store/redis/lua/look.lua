-- The job that is running in a room, ARGV[4], under a connid, ARGV[5], and its last report.
local value = call('HGET', P .. 'running:' .. ARGV[4], ARGV[5])
return {'ok', value or '', value and call('HGET', P .. 'progress:' .. ARGV[4], ARGV[5]) or ''}
