"""What is sent to many connections at once: joined once for all, and one write for each of them."""

from collections.abc import Callable, Collection
from itertools import repeat
from operator import call
from typing import Any, Protocol

from server.transport.frames import SendBytes

MOST_JOINED = 2**18
"""Bytes that a group joins before it writes them, even though the turn of the loop is not over."""


class Member(Protocol):
    """A connection, as far as a group has to know it."""

    out: list[bytes]
    """What this turn of the loop has produced for it alone."""
    groups: "tuple[Multicast, ...]"
    """The groups that it is in."""
    send_bytes: SendBytes

    def writable(self) -> bool:
        """Whether everything that was written is on its way, and more would be."""

    def append(self, data: bytes) -> None:
        """Write after what this turn has produced already, but for what its groups have."""

    def write_rest(self, data: bytes) -> None:
        """Write what could not be sent at once."""


class Flusher(Protocol):
    """What flushes connections and groups when a turn of the loop is over."""

    unflushed: list[Any]
    """The connections that have something to be sent."""

    def flush_group_soon(self, group: "Multicast") -> None:
        """Flush a group when this turn of the loop is over, if not before."""


class Multicast:
    """Members that are sent the same: what a turn of the loop produces for them is joined once.

    Only those are in it that have been sent everything so far. Who cannot be sent all at once is
    taken out, and has to be written to by itself.
    """

    __slots__ = ("_ahead", "_flusher", "_frames", "_members", "_on_clogged", "_senders", "_size")

    def __init__(self, flusher: Flusher, on_clogged: Callable[[Any], None]) -> None:
        """`on_clogged` is told whose connection was taken out so."""
        self._flusher = flusher
        self._on_clogged = on_clogged
        # The connections, with whose they are, and with what sends to each.
        self._members: dict[Member, Any] = {}
        self._senders: dict[Member, SendBytes] = {}
        # What this turn of the loop has produced, and how many bytes that is.
        self._frames: list[bytes] = []
        self._size = 0
        # How many of those a member has got already, so that something else could follow them.
        self._ahead: dict[Member, int] = {}

    def add(self, connection: Member, owner: Any) -> bool:
        """Send a connection all that is written from now on; false where that cannot be."""
        if connection in self._members:
            return True
        if not connection.writable():
            return False
        self.flush()
        self._members[connection] = owner
        self._senders[connection] = connection.send_bytes
        connection.groups = (*connection.groups, self)
        return True

    def discard(self, connection: Member, *, clogged: bool = False) -> None:
        """Take a connection out, if it is in; it is sent what was written before."""
        if connection in self._members:
            self.hand_over(connection)
            self._ahead.pop(connection, None)
            owner = self._members.pop(connection)
            del self._senders[connection]
            connection.groups = tuple(group for group in connection.groups if group is not self)
            if clogged:
                self._on_clogged(owner)

    def write(self, data: bytes) -> None:
        """Write whole frames to all."""
        if not self._frames:
            self._flusher.flush_group_soon(self)
        self._frames.append(data)
        self._size += len(data)
        if self._size > MOST_JOINED:
            self.flush()

    def hand_over(self, connection: Member) -> None:
        """Write to one what it has not got yet, so that something else can follow."""
        if self._frames:
            for data in self._frames[self._ahead.get(connection, 0) :]:
                connection.append(data)
            self._ahead[connection] = len(self._frames)

    def flush(self) -> None:
        """Write what was produced so far."""
        if not self._frames:
            return
        frames, self._frames, self._size = self._frames, [], 0
        ahead, self._ahead = self._ahead, {}
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        size = len(data)
        senders = self._senders.copy()
        unflushed = self._flusher.unflushed
        if len(unflushed) > len(senders):
            unflushed = [connection for connection in senders if connection.out]
        for connection in unflushed:
            if senders.pop(connection, None) is not None:
                # It has more to be sent: what comes before this, or comes after it by now.
                for late in frames[ahead.get(connection, 0) :]:
                    connection.append(late)
        sizes = send_all(senders.values(), data)
        if sum(sizes) == size * len(sizes):
            return
        for connection, sent in zip(senders, sizes, strict=True):
            if sent != size:
                connection.write_rest(data[sent:])


def send_all(senders: Collection[SendBytes], data: bytes) -> list[int]:
    """Call every `sender` with the same data; tells how many bytes each could send.

    A system call for each: whatever is done besides counts, so no step of the loop is Python's.
    """
    sent: list[int] = []
    sending = map(call, senders, repeat(data))
    while len(sent) < len(senders):
        try:
            sent.extend(sending)  # What was sent before an error is in there, and it goes on.
        except OSError:  # It would block, or fails again when asyncio writes, where it is seen to.
            sent.append(0)
    return sent
