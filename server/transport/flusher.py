"""When what was produced for clients is written to them."""

import asyncio
from typing import Protocol

from server.transport.multicast import Multicast

READ_AT_ONCE = 2**14
"""Bytes that are read from a connection before it is the turn of others: some hundred commands."""


class Flushed(Protocol):
    """A connection, as far as its flusher has to know it."""

    out: list[bytes]
    """What this turn of the loop has produced for it alone."""

    def flush(self) -> None:
        """Write what was produced so far."""


class Reader(Protocol):
    """What takes what is read from a connection."""

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""


class Flusher:
    """Has what one turn of the loop, or one read, produces for a client leave in one write."""

    def __init__(self) -> None:
        self.unflushed: list[Flushed] = []
        """The connections that have something to be sent."""
        self.read_buffer = memoryview(bytearray(READ_AT_ONCE))
        """Where what is read goes, for all connections, as it is taken at once. Else asyncio would
        make room for the most that may come each time, which costs more than to read what has."""
        self._groups: list[Multicast] = []
        # Whether there will be a flush: when this turn of the loop is over, or when what is being
        # read has been taken.
        self._flushing = False

    def take(self, reader: Reader, size: int) -> None:
        """Let a reader take what was read, and flush what has come of it at once.

        Unless something else waits for the end of this turn: then it may leave in the same write.
        """
        data = bytes(self.read_buffer[:size])
        if self._flushing:
            reader.data_received(data)
            return
        self._flushing = True
        try:
            reader.data_received(data)
        finally:
            self._flush()

    def flush_soon(self, connection: Flushed) -> None:
        """Flush a connection when this turn of the loop is over, if not before."""
        self._see_to_flush()
        self.unflushed.append(connection)

    def flush_group_soon(self, group: Multicast) -> None:
        """Flush a group when this turn of the loop is over, if not before."""
        self._see_to_flush()
        self._groups.append(group)

    def _see_to_flush(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        # The groups first: to a member that has more to be written they only add.
        groups, self._groups = self._groups, []
        for group in groups:
            group.flush()
        unflushed, self.unflushed = self.unflushed, []
        for connection in unflushed:
            connection.flush()
