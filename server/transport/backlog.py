"""What a client is still to be sent while others share a part of it."""

from collections import deque

from server.budget import Shared

PIECE = 2**16
"""Bytes that are handed to a socket at once, at most."""


class Backlog:
    """Bytes that wait for one client, in order; what is shared is not copied."""

    __slots__ = ("_begun", "_parts", "own", "size")

    def __init__(self) -> None:
        self._parts: deque[Shared | bytearray] = deque()
        # How many bytes of the first part are on their way.
        self._begun = 0
        self.size = 0
        """How many bytes wait."""
        self.own = 0
        """How many bytes are held for this client alone."""

    def add(self, data: bytes) -> None:
        """Let something wait that is for this client alone."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, bytearray):
            last += data
        else:
            self._parts.append(bytearray(data))
        self.own += len(data)
        self.size += len(data)

    def share(self, body: Shared) -> None:
        """Let something wait that is for others as well."""
        self._parts.append(body)
        self.size += len(body)

    @property
    def bodies(self) -> list[Shared]:
        """What others share."""
        return [part for part in self._parts if isinstance(part, Shared)]

    def next_piece(self) -> memoryview:
        """The first of what waits, to be released before anything is added."""
        part = self._parts[0]
        view = part.data if isinstance(part, Shared) else memoryview(part)
        return view[self._begun : self._begun + PIECE]

    def advance(self, size: int) -> None:
        """So many bytes of the next piece are on their way; it was released."""
        self._begun += size
        self.size -= size
        part = self._parts[0]
        if self._begun == len(part):
            self._begun = 0
            del self._parts[0]
            if isinstance(part, bytearray):
                self.own -= len(part)
