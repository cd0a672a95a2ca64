"""The documents of the protocol, and clients in other languages."""
