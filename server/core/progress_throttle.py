"""Limits the rate of progress events; the latest report of a job is never lost."""

import asyncio
from collections.abc import Callable

from server.contract.messages import Progress


class ProgressGate:
    """Sends at most one report of each job in an interval, and always the latest one."""

    def __init__(self, interval: float, send: Callable[[Progress], None]) -> None:
        self._interval = interval
        self._send = send
        # The jobs whose interval has not ended, each with the report that waits for that.
        self._held: dict[tuple[str, str], Progress | None] = {}

    def offer(self, progress: Progress) -> None:
        """Send a report now, or have it replace the one that waits."""
        key = (progress.room, progress.connid)
        if key in self._held:
            self._held[key] = progress
        else:
            self._let_through(key, progress)

    def take(self, room: str, connid: str) -> Progress | None:
        """Remove and return the report of a job that waits, if there is one."""
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
