"""The clock of the service: it begins at the machine's date, and nobody can set it after that.

All that is counted in seconds is counted by `Clock.now`: the date with which the process began, and
what has passed since by a clock that goes on in suspend and cannot be set. So it never falls and
never jumps while the process lives, whatever becomes of the machine's date. Only what others have
dated, as the end of a token, is held against the date itself.

`Watch` notices that the date was set, and that the process stood still.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from server.counters import Counts

TICK = 0.25
"""Seconds between two looks."""
STEP = 0.1
"""Seconds by which the date has to have been set to be worth a word: two clocks are read one after
the other, and are steered towards the right time a little at a time."""

log = logging.getLogger(__name__)


BOOTTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
boottime: Callable[[], float] = partial(time.clock_gettime, BOOTTIME)
"""Seconds that nobody can set, and that go on while the machine is suspended."""


class Clock:
    """The time by which jobs are counted, in seconds since the Unix epoch."""

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = boottime
    ) -> None:
        """`wall` is the machine's date in Unix time, `steady` a clock that only goes forward."""
        self.wall = wall
        offset = wall() - steady()

        # Closures, as the time is asked for several times for each command.
        def now() -> float:
            return steady() + offset

        def begin(at: float) -> None:
            nonlocal offset
            offset = at - steady()

        def reach(at: float) -> None:
            nonlocal offset
            offset = max(offset, at - steady())

        self.now = now
        """The time."""
        self.begin = begin
        """Let it be that time now."""
        self.reach = reach
        """Let it be at least that time now."""

    @property
    def drift(self) -> float:
        """Seconds that the machine's date is ahead of this clock; below 0 where it is behind."""
        return self.wall() - self.now()


class Watch:
    """Looks again and again whether the machine's date was set, or the process stood still."""

    def __init__(
        self,
        clock: Clock,
        counts: Counts,
        stall_timeout: float,
        on_step: Callable[[float], None],
        on_stall: Callable[[], None],
    ) -> None:
        """`on_step` is told how far the date is ahead of the clock when that has changed, and
        `on_stall` when nothing was done for `stall_timeout` seconds."""
        self._clock = clock
        self._counts = counts
        self._stall_timeout = stall_timeout
        self._on_step = on_step
        self._on_stall = on_stall
        self._drift = 0.0
        self._looked_at = boottime()

    def begin(self) -> None:
        """Take the date as it is for known: whatever it is, it was not set while we looked."""
        self._drift = self._clock.drift
        self._looked_at = boottime()

    async def run(self) -> None:
        """Look until cancelled, and note how late the event loop comes."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            self._counts.lag.observe(loop.time() - due)
            self.look()

    def look(self) -> None:
        """Look, before anything is decided by the time that has passed."""
        now = boottime()
        stood = now - self._looked_at - TICK
        self._looked_at = now
        if stood > self._stall_timeout:
            self._counts.stalls += 1
            log.warning("the process stalled for %.1f s: leases begin anew", stood)
            self._on_stall()
        self._look_at_date(now)

    def _look_at_date(self, now: float) -> None:
        drift = self._clock.drift
        step = drift - self._drift
        # Where the process was held up in between, the two clocks were not read together.
        if abs(step) < STEP or boottime() - now > STEP / 2:
            return
        self._drift = drift
        self._counts.clock_steps["forward" if step > 0 else "back"] += 1
        log.warning(
            "the machine's date was set %s by %.1f s: jobs are counted on as before, and times are"
            " shown %.1f s %s it until a restart",
            "forward" if step > 0 else "back",
            abs(step),
            abs(drift),
            "behind" if drift > 0 else "ahead of",
        )
        self._on_step(drift)
