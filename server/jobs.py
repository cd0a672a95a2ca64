"""The running jobs: what may happen to one, and the timeouts that end it.

A job is running from its `started` until its one `killed` or `finished`:

    request ──► running ──┬─ kill, or a request that replaces it ──► killed ──► its owner: stopped
                          ├─ its time runs out ────────────────────► finished (elapsed)
                          ├─ its owner says done or failed ────────► finished (done, failed)
                          └─ its owner stops renewing its lease ───► finished (lost)

Which of several ends wins is the store's decision: it takes the first, and tells the others that
what they expected is no longer running. So is whether who reports of a job is its owner. Time comes
in as an argument or from the store.
"""

import asyncio
from contextlib import suppress
from random import getrandbits

from msgspec import Raw

from server.changes import SERVER, Actor, Changes
from server.counts import Histogram
from server.errors import Conflict, Forbidden, NotRunning, Unavailable
from server.protocol import NULL, EndedJob, Job, Outcome, Progress
from server.store import (
    Due,
    EndJob,
    Entry,
    Finish,
    Foreign,
    Kill,
    ReportProgress,
    Stale,
    StartJob,
    StopJob,
    Store,
)

LATE_AFTER = 1.0
"""Seconds after its due time from which an end is marked `late`."""
ROUND = 1000
"""Jobs that are ended in one round, so that a crowd of them does not hold up the rest."""
NAP = 1.0
"""Seconds after which the timeouts look at the clock again, whose time may have been set."""


class Jobs:
    """What may happen to a job. Every method answers once the change is durable.

    What only owners may do raises `Forbidden` for others who are proven to be such.
    """

    def __init__(self, store: Store, changes: Changes) -> None:
        self._store = store
        self._changes = changes
        self._now = store.now

    async def start(
        self,
        room: str,
        connid: str,
        time: float,
        actor: Actor,
        *,
        note: str | None = None,
        lease: float | None = None,
        replace: bool = False,
    ) -> Entry:
        """Start a job. Raises `Conflict`, with the job that is running under the connid already,
        unless that is to be replaced.
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
        replaces = Kill(None, actor.name, actor.via, "replaced") if replace else None
        try:
            entries = await self._store.submit(StartJob(job, replaces))
        except Stale as stale:
            raise Conflict(
                f"{connid} is running already: kill it first, or set if_running to"
                ' "replace" or "keep"',
                job=stale.job,
            ) from None
        self._changes.made(entries, actor)
        return entries[-1]

    async def kill(
        self, room: str, connid: str, actor: Actor, *, run: str | None, reason: str | None
    ) -> Entry:
        """Kill the job that is running under `connid`, if it is that `run` where one is given."""
        return await self._end(room, connid, Kill(run, actor.name, actor.via, reason), actor)

    async def finish(
        self,
        room: str,
        connid: str,
        run: str,
        outcome: Outcome,
        result: Raw,
        actor: Actor,
    ) -> Entry:
        """End a job because its owner says that the work is over."""
        return await self._end(room, connid, Finish(run, outcome, result), actor, actor.owner)

    async def progress(
        self,
        room: str,
        connid: str,
        run: str,
        done: float | None,
        note: str | None,
        actor: Actor,
    ) -> None:
        """Keep the owner's latest report, and renew the job's lease."""
        progress = Progress(room, self._now(), connid, run, done, note)
        try:
            await self._store.submit(ReportProgress(progress, actor.owner))
        except (Stale, Foreign) as refusal:
            raise await self._refused(refusal, room, connid, run) from None

    async def stopped(
        self, room: str, connid: str, run: str, exit: int | None, actor: Actor
    ) -> EndedJob | None:
        """Note that the work of a killed job has really stopped; a second time changes nothing.

        None when the job, killed long ago, leaves the history in the same moment, or when it cannot
        be read any more.
        """
        owner = actor.owner
        try:
            entries = await self._store.submit(StopJob(room, connid, run, self._now(), exit, owner))
        except Foreign as foreign:
            raise forbidden(connid, foreign.owner) from None
        except Stale as stale:
            job = await self._store.ended(room, connid, run)
            if job is not None and owner not in (None, job.started_by):
                raise forbidden(connid, job.started_by) from None
            if job is None or job.stopped_at is None:
                raise await self._not_running(room, connid, stale.job, run, "killed") from None
            return job
        self._changes.made(entries, actor)
        with suppress(Unavailable):  # It has happened, whether it can be read or not.
            return await self._store.ended(room, connid, run)
        return None

    async def print(self, room: str, connid: str, run: str, text: str, actor: Actor) -> None:
        """Show what the work prints to those who watch; also after a kill, until it has stopped."""
        try:
            await self._store.print(room, connid, run, text, actor.owner)
        except (Stale, Foreign) as refusal:
            raise await self._refused(refusal, room, connid, run) from None

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

    async def _end(
        self, room: str, connid: str, how: Kill | Finish, actor: Actor, owner: str | None = None
    ) -> Entry:
        try:
            entries = await self._store.submit(EndJob(room, connid, self._now(), how, owner))
        except (Stale, Foreign) as refusal:
            raise await self._refused(refusal, room, connid, how.run) from None
        self._changes.made(entries, actor)
        return entries[0]

    async def _refused(
        self, refusal: Stale | Foreign, room: str, connid: str, run: str | None
    ) -> NotRunning | Forbidden:
        """The error for what the store has refused."""
        if isinstance(refusal, Foreign):
            return forbidden(connid, refusal.owner)
        return await self._not_running(room, connid, refusal.job, run)

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
        if current is not None and current.run != run:
            return NotRunning(f"{connid} is running, but as another run", job=ended)
        return NotRunning(f"{connid} is not {state} in room {room}", job=ended)


class Timeouts:
    """Ends jobs whose time has run out, or whose lease was not renewed: one task for all."""

    def __init__(self, store: Store, changes: Changes, lateness: Histogram) -> None:
        """`lateness` learns how long after its due time each job was ended."""
        self._store = store
        self._changes = changes
        self._lateness = lateness
        self._ending = asyncio.Lock()

    async def run(self) -> None:
        """End what is due, until cancelled."""
        while True:
            if not await self.end_due():
                await self._store.until_due(NAP)

    async def end_due(self) -> int:
        """End the jobs that are due now, or the first of them where they are many; how many."""
        async with self._ending:
            due = await self._store.take_due(ROUND)
            now = self._store.now()
            for item, end in [(item, self._store.submit(ending(item, now))) for item in due]:
                # It was killed or finished in the same moment, or it comes due again.
                with suppress(Stale, Unavailable):
                    self._changes.made(await end, SERVER)
                    self._lateness.observe(self._store.now() - item.at)
            return len(due)


def ending(due: Due, now: float) -> EndJob:
    """The end of a job that is due."""
    job = due.job
    outcome: Outcome = "elapsed" if due.at >= job.deadline else "lost"
    late = now - due.at > LATE_AFTER or due.missed
    return EndJob(job.room, job.connid, now, Finish(job.run, outcome, NULL, late))


def forbidden(connid: str, owner: str) -> Forbidden:
    """The error for a report of a job of another owner."""
    return Forbidden(f"{connid} belongs to {owner}: only its owner may report of it")


def new_run(now: float) -> str:
    """A new run id: ids that were made later sort later, to the millisecond."""
    return (int(now * 1000) << 48 | getrandbits(48)).to_bytes(12, "big").hex()
