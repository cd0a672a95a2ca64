"""What a node learns of the time from others: Redis's clock, and the time that all nodes share."""

import time

from server.clock import Clock


class TheirClock:
    """Redis's own clock, as far as this process knows it: jobs are not counted by it."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset

    def learn(self, told: float, asked_at: float) -> None:
        """Redis said that it was `told` between `asked_at` and now, by the monotonic clock."""
        least, most = told - time.monotonic(), told - asked_at
        if not least <= self._offset <= most:
            self._offset = (least + most) / 2


class SharedTime:
    """The time that all nodes share: the latest that any of them has told."""

    def __init__(self, clock: Clock) -> None:
        """`clock` goes on from what the other nodes say, and begins by itself where none is."""
        self._clock = clock
        self._known = False

    def told(self) -> str:
        """The time for a script; empty as long as this node does not know that of the others."""
        return repr(self._clock.now()) if self._known else ""

    def begin(self, at: float) -> None:
        """Redis has answered a sign of life: it is `at` by the time that all share."""
        (self._clock.reach if self._known else self._clock.begin)(at)
        self._known = True

    def reach(self, at: float) -> None:
        """Another node has told that it is `at`."""
        self._clock.reach(at)
