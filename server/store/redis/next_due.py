"""When the next job is due, for a store that many nodes share: Redis says it with all that it says.

Each node may end what is due. It leaves that to those before it for a moment, so that not all ask
for the same.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

STEP = 0.2
"""Seconds that a node leaves each node before it to end what is due."""
LAST = 3
"""Nodes before it that a node waits for at the most."""


class NextDue:
    """When a node has to look for jobs that are due.

    What it hears of that from the feed and from its own questions may come in another order than it
    was said in; the number of the feed tells which is the newest.
    """

    def __init__(self, node: str, now: Callable[[], float]) -> None:
        self._node = node
        self._now = now
        self._patience = 0.0
        self._at: float | None = None
        self._number = 0
        self._changed = asyncio.Event()

    def know(self, nodes: Iterable[str]) -> None:
        """The nodes that live, those before this one included."""
        self._patience = STEP * min(sum(node < self._node for node in nodes), LAST)

    def begin_anew(self) -> None:
        """The numbers begin anew with another feed."""
        self._number = 0

    def learn(self, due: bytes, number: int) -> None:
        """When the next job was due as the feed had come to a number; empty for never."""
        if number > self._number:
            self._take(due, number)

    def learn_taken(self, due: bytes, number: int) -> None:
        """The same, after this node had taken what was due: it is newer than the number says."""
        if number >= self._number:
            self._take(due, number)

    def come(self) -> bool:
        """Whether a job may be due, and is left to this node."""
        return self._at is not None and self._at + self._patience <= self._now()

    async def wait(self, most: float) -> None:
        """Wait until a job may be due, at most that many seconds."""
        self._changed.clear()
        delay = most
        if self._at is not None:
            delay = min(most, max(0.0, self._at + self._patience - self._now()))
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._changed.wait()

    def _take(self, due: bytes, number: int) -> None:
        self._at = float(due) if due else None
        self._number = number
        self._changed.set()
