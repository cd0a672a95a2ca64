"""When the running jobs are due, for a store that is one process: a heap, and no task for a job."""

import asyncio
import heapq
from collections.abc import Callable, Iterable
from contextlib import suppress

from server.contract.messages import Finished, Job, Killed, LogEvent, Started
from server.store.interface import Due, due_at

SLACK = 1000
"""Obsolete entries that the heap may hold besides one for each running job."""
LOOKED = 10_000
"""Entries that one look takes from the heap at most: after a pause most of them may be obsolete."""


class Schedule:
    """The due times of all running jobs.

    What a job's end or a renewed lease makes obsolete stays in the heap until it comes up, or until
    such entries outnumber the running jobs.
    """

    def __init__(self, retry_interval: float, runs: Callable[[Job], bool]) -> None:
        """A job that was taken and has not ended is due again after `retry_interval` seconds.

        `runs` tells whether a job is running still, as far as the log was followed.
        """
        self._retry_interval = retry_interval
        self._runs = runs
        self._heap: list[tuple[float, str, Job]] = []
        # How many jobs are running.
        self._running = 0
        # When the lease of a run was last renewed, for the jobs that have one.
        self._renewed: dict[str, float] = {}
        # When all leases began anew.
        self._anew_at = 0.0
        # The runs that had come due before this server was there.
        self._missed: set[str] = set()
        self._wake = asyncio.Event()

    def open(self, jobs: Iterable[Job], now: float) -> None:
        """Take over what is running. Leases begin anew: their owners could not renew them while the
        server was away."""
        for job in jobs:
            self._add(job, now)
            if self._due_at(job) <= now:
                self._missed.add(job.run)

    def follow(self, event: LogEvent) -> None:
        """Take an event of the log into account."""
        if isinstance(event, Started):
            self._add(event.job, event.at)
        elif isinstance(event, Killed | Finished):
            self._running -= 1
            self._renewed.pop(event.run, None)
            self._missed.discard(event.run)
            if len(self._heap) > 2 * self._running + SLACK:
                self._heap = [item for item in self._heap if self._runs(item[2])]
                heapq.heapify(self._heap)

    def renew(self, run: str, at: float) -> None:
        """The owner of a run was heard of at `at`."""
        if run in self._renewed:
            self._renewed[run] = at

    def begin_leases_anew(self, now: float) -> None:
        """Count all leases from now on: their owners could not renew them."""
        self._anew_at = now

    def take(self, now: float, limit: int, *, leases: bool = True) -> list[Due]:
        """Up to `limit` jobs that are due, in the order in which they came due; without `leases`
        only those whose time is over."""
        taken: list[Due] = []
        later: list[Job] = []
        looked = 0
        while self._heap and self._heap[0][0] <= now and len(taken) < limit and looked < LOOKED:
            then, run, job = heapq.heappop(self._heap)
            looked += 1
            if not self._runs(job):
                continue
            at = self._due_at(job)
            if at > then:
                self._push(at, job)  # In its turn, even where that has come as well.
                continue
            later.append(job)
            if leases or job.deadline <= now:
                taken.append(Due(job, at if leases else job.deadline, run in self._missed))
        for job in later:
            self._push(now + self._retry_interval, job)
        return taken

    async def wait(self, now: float, most: float) -> None:
        """Wait until a job may be due, at most that many seconds."""
        self._wake.clear()
        delay = most
        if self._heap:
            delay = min(most, max(0.0, self._heap[0][0] - now))
        # Not `wait_for`: in Python 3.11 it loses a cancellation that comes with the wake-up.
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._wake.wait()

    def __len__(self) -> int:
        """Entries in the heap, those included that are obsolete."""
        return len(self._heap)

    def _add(self, job: Job, renewed_at: float) -> None:
        self._running += 1
        if job.lease is None:
            self._push(job.deadline, job)
        else:
            self._renewed[job.run] = renewed_at
            self._push(self._due_at(job), job)

    def _push(self, at: float, job: Job) -> None:
        heapq.heappush(self._heap, (at, job.run, job))
        if self._heap[0][1] == job.run:
            self._wake.set()

    def _due_at(self, job: Job) -> float:
        return due_at(job, max(self._renewed.get(job.run, 0.0), self._anew_at))
