"""What jobs have printed, for a store that is one process: the end of it, in memory."""

from collections import OrderedDict

from server.budget import Shares
from server.config import Config
from server.contract.messages import Printed

PARTS = 64
"""Texts that a tail is made of, about."""
TAIL = 1024
"""Bytes that a tail takes beside its texts, about."""
CONTINUES = 0b1000_0000
"""The highest two bits of a byte that goes on with a character of UTF-8: RFC 3629, section 3."""


class Tail:
    """The end of what one run has printed."""

    __slots__ = ("connid", "end", "offset", "owner", "room", "size", "texts", "touched_at")

    def __init__(self, room: str, connid: str, owner: str) -> None:
        self.room = room
        self.connid = connid
        self.owner = owner
        # In UTF-8: a single emoji makes Python take four bytes for each character of a text.
        self.texts: list[bytes] = []
        self.size = 0
        # How many characters came before the texts, and before what comes next.
        self.offset = self.end = 0
        self.touched_at = 0.0

    def add(self, text: str, most: int) -> None:
        """Keep a text, and of all texts the last `most` bytes."""
        encoded = text.encode()
        if self.texts and len(self.texts[-1]) < most / PARTS:
            self.texts[-1] += encoded  # Little by little it would take far more than its length.
        else:
            self.texts.append(encoded)
        self.end += len(text)
        self.size += len(encoded)
        while self.size > most:
            self._drop(self.size - most)

    def read(self, after: int) -> Printed:
        """What is kept after so many characters."""
        offset = max(self.offset, after)
        return Printed(offset, b"".join(self.texts).decode()[offset - self.offset :])

    def _drop(self, surplus: int) -> None:
        """Drop the first text, or so much of it, in whole characters."""
        first = self.texts.pop(0)
        while surplus < len(first) and first[surplus] & 0b1100_0000 == CONTINUES:
            surplus += 1
        dropped, kept = first[:surplus], first[surplus:]
        if kept:
            self.texts.insert(0, kept)
        self.size -= len(dropped)
        self.offset += len(dropped.decode())


class Outputs:
    """The tails of all runs, those that were touched last at the end."""

    def __init__(self, config: Config) -> None:
        self._most = config.max_output
        self._most_in_all = Shares(config).output
        self._keep = config.output_retention
        self._tails: OrderedDict[str, Tail] = OrderedDict()
        self.size = 0
        """Bytes that they take, about."""

    def __len__(self) -> int:
        return len(self._tails)

    def owner(self, room: str, connid: str, run: str) -> str | None:
        """Whose a run is of which something is kept."""
        tail = self._tails.get(run)
        if tail is None or (tail.room, tail.connid) != (room, connid):
            return None
        return tail.owner

    def add(self, room: str, connid: str, run: str, owner: str, text: str, now: float) -> int:
        """Keep what a run has printed, which must be something; how many characters it had printed
        before."""
        self.forget(now)
        tail = self._tails.get(run)
        if tail is None:
            tail = self._tails[run] = Tail(room, connid, owner)
            self.size += TAIL
        before, size = tail.end, tail.size
        tail.add(text, self._most)
        tail.touched_at = now
        self._tails.move_to_end(run)
        self.size += tail.size - size
        while self.size > self._most_in_all:
            self._drop()
        return before

    def read(self, run: str, after: int) -> Printed:
        """What is kept of what a run has printed after so many characters."""
        tail = self._tails.get(run)
        return Printed(after, "") if tail is None else tail.read(after)

    def forget(self, now: float) -> None:
        """Drop what was printed too long ago."""
        while self._tails and next(iter(self._tails.values())).touched_at < now - self._keep:
            self._drop()

    def _drop(self) -> None:
        _, tail = self._tails.popitem(last=False)
        self.size -= tail.size + TAIL
