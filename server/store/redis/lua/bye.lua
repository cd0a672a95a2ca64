-- A node, ARGV[4], leaves.
forget(ARGV[4])
return {'ok'}
