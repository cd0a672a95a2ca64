"""What this server has changed, until it has heard the event of it in the feed."""

import asyncio
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from server.store.completion import notify_all
from server.store.interface import Entry, Submitted


class PendingAck(Struct, eq=False):
    """A change that is made, and is answered when the feed has come to its number."""

    number: int
    completion: Submitted
    entries: list[Entry]
    deadline: float
    """By the clock of the loop: it is answered then at the latest."""


class PendingAcks:
    """The changes that wait for the feed, in the order of their numbers."""

    def __init__(self, position: Callable[[], int]) -> None:
        """`position` is the number that the feed has come to."""
        self._position = position
        self._waiting: deque[PendingAck] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ack: PendingAck) -> None:
        """Answer a change once the feed has come to it; at once where it has."""
        if ack.number <= self._position():
            ack.completion.resolve(ack.entries)
            return
        self._waiting.append(ack)
        if self._timer is None:
            self._answer_late()

    def settle(self) -> None:
        """Answer those that the feed has come to by now."""
        completions = []
        while self._waiting and self._waiting[0].number <= self._position():
            ack = self._waiting.popleft()
            ack.completion.complete(ack.entries)
            completions.append(ack.completion)
        notify_all(completions)

    def close(self) -> None:
        """Answer nothing any more by a deadline."""
        if self._timer is not None:
            self._timer.cancel()

    def _answer_late(self) -> None:
        """Answer those whose deadline has passed, and look again at the next one."""
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiting and self._waiting[0].deadline <= loop.time():
            ack = self._waiting.popleft()
            ack.completion.resolve(ack.entries)
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0].deadline, self._answer_late)
