"""Progress of jobs, at no more than a rate, and never without its latest report."""

import asyncio
from collections.abc import Callable

from server.contract.messages import Progress


class ProgressGate:
    """Lets one report of each job through in an interval, and never loses the latest one."""

    def __init__(self, interval: float, send: Callable[[Progress], None]) -> None:
        self._interval = interval
        self._send = send
        # The jobs whose interval is not over, with the report that waits for its end.
        self._held: dict[tuple[str, str], Progress | None] = {}

    def offer(self, progress: Progress) -> None:
        """Send a report now, or in place of the one that waits."""
        key = (progress.room, progress.connid)
        if key in self._held:
            self._held[key] = progress
        else:
            self._let_through(key, progress)

    def take(self, room: str, connid: str) -> Progress | None:
        """The report of a job that waits, which is then let through no more."""
        key = (room, connid)
        waiting = self._held.get(key)
        if waiting is not None:
            self._held[key] = None
        return waiting

    def _let_through(self, key: tuple[str, str], progress: Progress) -> None:
        self._send(progress)
        self._held[key] = None
        asyncio.get_running_loop().call_later(self._interval, self._reopen, key)

    def _reopen(self, key: tuple[str, str]) -> None:
        waiting = self._held.pop(key)
        if waiting is not None:
            self._let_through(key, waiting)
