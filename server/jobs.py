"""The running jobs: what may happen to one, and the timeouts that end it.

A job is running from its `started` until its one `killed` or `finished`:

    request ──► running ──┬─ kill, or a request that replaces it ──► killed ──► its owner: stopped
                          ├─ its time runs out ────────────────────► finished (elapsed)
                          ├─ its owner says done or failed ────────► finished (done, failed)
                          └─ its owner stops renewing its lease ───► finished (lost)

Which of several ends wins is the store's decision: it takes the first, and tells the others that
what they expected is no longer running. Time comes in as an argument or from `now`.
"""

import asyncio
import heapq
import logging
from collections.abc import Callable
from contextlib import suppress
from random import getrandbits

from msgspec import Raw, Struct

from server.errors import Conflict, NotRunning, Unavailable
from server.protocol import NULL, EndedJob, Job, Outcome, Progress, Started, Stopped, Via
from server.store import (
    EndJob,
    Entry,
    Finish,
    Kill,
    ReportProgress,
    Stale,
    StartJob,
    StopJob,
    Store,
)

log = logging.getLogger(__name__)

LATE_AFTER = 1.0
"""Seconds after its due time from which an end is marked `late`."""
ROUND = 1000
"""Jobs that are ended in one round, so that a crowd of them does not hold up the rest."""
NAP = 1.0
"""Seconds after which the timeouts look at the clock again, whose time may have been set."""


class Actor(Struct, frozen=True):
    """Who does something to a job, and through which door."""

    name: str
    via: Via


class Jobs:
    """What may happen to a job. Every method answers once the change is durable."""

    def __init__(self, store: Store, timeouts: "Timeouts", now: Callable[[], float]) -> None:
        self._store = store
        self._timeouts = timeouts
        self._now = now

    async def start(
        self,
        room: str,
        connid: str,
        time: float,
        actor: Actor,
        *,
        note: str | None = None,
        lease: float | None = None,
        if_running: str = "reject",
    ) -> tuple[Job, int | None]:
        """Start a job; with "keep" the one that is running already is as good, and has no seq.

        Raises `Conflict` when the connid is running and is to be neither kept nor replaced.
        """
        now = self._now()
        job = Job(
            connid=connid,
            run=new_run(now),
            room=room,
            time=time,
            started_at=now,
            deadline=now + time,
            by=actor.name,
            note=note,
            lease=lease,
        )
        replaces = None
        if if_running == "replace":
            replaces = Kill(None, actor.name, actor.via, "replaced")
        try:
            entries = await self._store.submit(StartJob(job, replaces))
        except Stale as stale:
            if if_running == "keep" and stale.job is not None:
                return stale.job, None
            raise Conflict(
                f"{connid} is running already: kill it first, or set if_running to"
                ' "replace" or "keep"',
                job=stale.job,
            ) from None
        return job, entries[-1].event.seq

    async def kill(
        self, room: str, connid: str, actor: Actor, *, run: str | None, reason: str | None
    ) -> EndedJob:
        """Kill the job that is running under `connid`, if it is that `run` where one is given."""
        return await self._end(room, connid, Kill(run, actor.name, actor.via, reason))

    async def finish(
        self, room: str, connid: str, run: str, outcome: Outcome, result: Raw
    ) -> EndedJob:
        """End a job because its owner says that the work is over."""
        return await self._end(room, connid, Finish(run, outcome, result))

    async def progress(
        self, room: str, connid: str, run: str, done: float | None, note: str | None
    ) -> None:
        """Keep the owner's latest report, and renew the job's lease."""
        now = self._now()
        # Before the report is durable: the timeout must not come in between.
        self._timeouts.renew(run, now)
        try:
            progress = Progress(room, now, connid, run, done, note)
            await self._store.submit(ReportProgress(progress))
        except Stale as stale:
            raise await self._not_running(room, connid, stale.job, run) from None

    async def stopped(self, room: str, connid: str, run: str, exit: int | None) -> EndedJob | None:
        """Note that the work of a killed job has really stopped; a second time changes nothing.

        None when the job, killed long ago, leaves the history in the same moment.
        """
        try:
            await self._store.submit(StopJob(room, connid, run, self._now(), exit))
        except Stale as stale:
            job = await self._store.ended(room, connid, run)
            if job is None or job.stopped_at is None:
                raise await self._not_running(room, connid, stale.job, run, "killed") from None
            return job
        return await self._store.ended(room, connid, run)

    async def running(self, room: str, connid: str) -> Job:
        """The job that is running under `connid`. Raises `NotRunning`."""
        job = await self._store.running(room, connid)
        if job is None:
            raise await self._not_running(room, connid, None)
        return job

    async def find(self, room: str, connid: str) -> Job | EndedJob | None:
        """The job that is running under `connid`, else the last one that was."""
        job = await self._store.running(room, connid)
        return job or await self._store.ended(room, connid)

    async def _end(self, room: str, connid: str, how: Kill | Finish) -> EndedJob:
        try:
            entries = await self._store.submit(EndJob(room, connid, self._now(), how))
        except Stale as stale:
            raise await self._not_running(room, connid, stale.job, how.run) from None
        job = entries[0].ended
        assert job is not None, "the entry of an end holds the ended job"
        return job

    async def _not_running(
        self,
        room: str,
        connid: str,
        current: Job | None,
        run: str | None = None,
        state: str = "running",
    ) -> NotRunning:
        """The error for a run that is not `state`, with the job that tells most about it."""
        ended = await self._store.ended(room, connid, run)
        if ended is None and run is not None:
            ended = await self._store.ended(room, connid)
        if current is not None:
            return NotRunning(f"{connid} is running, but as another run", job=ended)
        return NotRunning(f"{connid} is not {state} in room {room}", job=ended)


class Timeouts:
    """Ends jobs whose time has run out, or whose lease was not renewed: one task for all of them.

    A heap holds when each job is due next. What a job's end or a renewed lease makes obsolete stays
    in the heap until it comes up, or until such entries outnumber the running jobs.
    """

    def __init__(self, store: Store, now: Callable[[], float], retry_interval: float) -> None:
        self._store = store
        self._now = now
        self._retry_interval = retry_interval
        self._heap: list[tuple[float, str, Job]] = []
        self._running: dict[str, Job] = {}
        # When the lease of a run was last renewed, for the jobs that have one.
        self._renewed: dict[str, float] = {}
        # The runs that had come due before this server was there.
        self._overdue: set[str] = set()
        self._wake = asyncio.Event()

    def open(self) -> None:
        """Take over what the store says is running. Leases begin anew: their owners could not renew
        them while the server was away."""
        now = self._now()
        for job in self._store.jobs():
            self._add(job, now)
            if self._due_at(job) <= now:
                self._overdue.add(job.run)

    def follow(self, entry: Entry) -> None:
        """Take an entry of the log into account."""
        event = entry.event
        if isinstance(event, Started):
            self._add(event.job, event.at)
        elif not isinstance(event, Stopped):
            self._running.pop(event.run, None)
            self._renewed.pop(event.run, None)
            self._overdue.discard(event.run)
            if len(self._heap) > 2 * len(self._running) + ROUND:
                self._heap = [item for item in self._heap if item[1] in self._running]
                heapq.heapify(self._heap)

    def renew(self, run: str, at: float) -> None:
        """The owner of a run was heard of at `at`."""
        if run in self._renewed:
            self._renewed[run] = at

    async def run(self) -> None:
        """End what is due, until cancelled."""
        while True:
            self._wake.clear()
            if await self.end_due():
                continue
            delay = NAP
            if self._heap:
                delay = min(NAP, max(0.0, self._heap[0][0] - self._now()))
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes with the wake-up.
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def end_due(self) -> int:
        """End the jobs that are due now, or the first of them where they are many; how many."""
        now = self._now()
        due = self._take_due(now)
        ends = [(job, self._store.submit(self._end(job, due_at, now))) for due_at, job in due]
        for job, end in ends:
            try:
                await end
            except Stale:
                pass  # It was killed or finished in the same moment.
            except Unavailable:
                self._push(now + self._retry_interval, job)
        return len(due)

    @property
    def pending(self) -> int:
        """Entries in the heap, those included that are obsolete."""
        return len(self._heap)

    def _add(self, job: Job, renewed_at: float) -> None:
        self._running[job.run] = job
        if job.lease is not None:
            self._renewed[job.run] = renewed_at
        self._push(self._due_at(job), job)

    def _push(self, at: float, job: Job) -> None:
        heapq.heappush(self._heap, (at, job.run, job))
        if self._heap[0][1] == job.run:
            self._wake.set()

    def _due_at(self, job: Job) -> float:
        if job.lease is None:
            return job.deadline
        return min(job.deadline, self._renewed[job.run] + job.lease)

    def _take_due(self, now: float) -> list[tuple[float, Job]]:
        due: list[tuple[float, Job]] = []
        while self._heap and self._heap[0][0] <= now and len(due) < ROUND:
            _, run, job = heapq.heappop(self._heap)
            if run not in self._running:
                continue
            due_at = self._due_at(job)
            if due_at <= now:
                due.append((due_at, job))
            else:
                self._push(due_at, job)
        return due

    def _end(self, job: Job, due_at: float, now: float) -> EndJob:
        outcome: Outcome = "elapsed" if due_at >= job.deadline else "lost"
        late = now - due_at > LATE_AFTER or job.run in self._overdue
        return EndJob(job.room, job.connid, now, Finish(job.run, outcome, NULL, late))


def new_run(now: float) -> str:
    """A new run id: ids that were made later sort later, to the millisecond."""
    return f"{int(now * 1000):012x}{getrandbits(48):012x}"
