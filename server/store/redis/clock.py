"""The clock of Redis, as a server knows it."""

import time


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
