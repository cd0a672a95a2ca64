-- The seq at which a room, ARGV[4], stands.
return {'ok', seq_of(ARGV[4])}
