"""What jobs have printed, for a store that is one process: the end of it, in memory."""

from collections import OrderedDict, deque

from server.config import Config
from server.protocol import Printed

PARTS = 64
"""Texts that a tail is made of, about."""


class Tail:
    """The end of what one run has printed."""

    __slots__ = ("connid", "end", "offset", "owner", "room", "texts", "touched_at")

    def __init__(self, room: str, connid: str, owner: str) -> None:
        self.room = room
        self.connid = connid
        self.owner = owner
        self.texts: deque[str] = deque()
        # How many characters came before the texts, and before what comes next.
        self.offset = self.end = 0
        self.touched_at = 0.0

    def cut(self, most: int) -> None:
        """Keep no more than `most` characters of the end."""
        while self.end - self.offset > most:
            surplus = self.end - self.offset - most
            first = self.texts.popleft()
            if len(first) > surplus:
                self.texts.appendleft(first[surplus:])
            self.offset += min(surplus, len(first))


class Outputs:
    """The tails of all runs, those that were touched last at the end."""

    def __init__(self, config: Config) -> None:
        self._most = config.max_output
        self._most_in_all = config.max_outputs
        self._keep = config.output_keep
        self._tails: OrderedDict[str, Tail] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._tails)

    def owner(self, room: str, connid: str, run: str) -> str | None:
        """Whose a run is of which something is kept."""
        tail = self._tails.get(run)
        if tail is None or (tail.room, tail.connid) != (room, connid):
            return None
        return tail.owner

    def add(self, room: str, connid: str, run: str, owner: str, text: str, now: float) -> int:
        """Keep what a run has printed; how many characters it had printed before."""
        self.forget(now)
        tail = self._tails.pop(run, None) or Tail(room, connid, owner)
        self._tails[run] = tail
        before, kept = tail.end, tail.end - tail.offset
        if tail.texts and len(tail.texts[-1]) < self._most / PARTS:
            tail.texts[-1] += text  # Little by little it would take far more than its length.
        elif text:
            tail.texts.append(text)
        tail.end += len(text)
        tail.touched_at = now
        tail.cut(self._most)
        self._size += tail.end - tail.offset - kept
        while self._size > self._most_in_all:
            self._drop()
        return before

    def read(self, run: str, after: int) -> Printed:
        """What is kept of what a run has printed after so many characters."""
        tail = self._tails.get(run)
        if tail is None:
            return Printed(after, "")
        offset = max(tail.offset, after)
        return Printed(offset, "".join(tail.texts)[offset - tail.offset :])

    def forget(self, now: float) -> None:
        """Let go of what was printed too long ago."""
        while self._tails and next(iter(self._tails.values())).touched_at < now - self._keep:
            self._drop()

    def _drop(self) -> None:
        _, tail = self._tails.popitem(last=False)
        self._size -= tail.end - tail.offset
