-- The log is not what it was: give it another epoch, ARGV[4].
regardless_of_memory()
call('HSET', P .. 'meta', 'epoch', ARGV[4])
return {'ok'}
