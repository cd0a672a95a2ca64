"""Commands and rooms, without a socket: what a client may do, and what it hears."""
