"""The store of a server that is one process: decided in memory, durable in one file."""
