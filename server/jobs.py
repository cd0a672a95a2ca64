"""The running jobs: what may happen to one, and the timeouts that end it.

A job is running from its `started` until its one `killed` or `finished`:

    request ──► running ──┬─ kill, or a request that replaces it ──► killed ──► its owner: stopped
                          ├─ its time runs out ────────────────────► finished (elapsed)
                          ├─ its owner says done or failed ────────► finished (done, failed)
                          └─ its owner stops renewing its lease ───► finished (lost)

While it runs its deadline may be moved, by an `extended`.

An owner that is heard again may add to the record of an end that was not its own: that the work has
stopped, and how a run that was lost truly ended.

Which of several ends wins is the store's decision: it takes the first, and tells the others that
what they expected is no longer running. So is whether who reports of a job is its owner. Time comes
in as an argument or from the store.
"""

import asyncio
from contextlib import suppress
from functools import partial
from random import getrandbits

from msgspec import UNSET, Raw, UnsetType

from server.access.actor import Actor
from server.clock import Watch
from server.contract.messages import NULL, EndedJob, Job, Outcome, Progress, Stoppable
from server.counters import Histogram
from server.errors import CommandError, Conflict, Forbidden, Invalid, NotRunning, Unavailable
from server.store.interface import (
    AmendJob,
    Change,
    Due,
    EndJob,
    Entry,
    ExtendJob,
    FinishDetails,
    Foreign,
    KillDetails,
    ReportProgress,
    Stale,
    StartJob,
    StopJob,
    Store,
    Submitted,
    knows_deadline,
)

LATE_AFTER = 1.0
"""Seconds after its due time from which an end is marked `late`."""
ROUND = 1000
"""Jobs that are ended in one round, so that a crowd of them does not hold up the rest."""
ENDED_FOR_IT = "killed, elapsed or lost"
"""How a job has ended of which its owner may say that the work has stopped."""
NAP = 1.0
"""Seconds after which the timeouts look at the clock again: that of the event loop, by which they
wait, stands still while the machine is suspended."""
TURNS = 5
"""Turns of the event loop in which what lies in the sockets is read, at whichever door."""


class Jobs:
    """What may happen to a job.

    What starts, ends or reports of one is decided in the order of these calls, and `outcome` tells
    what has come of it. What only owners may do is forbidden to others who are proven to be such.
    """

    def __init__(self, store: Store, max_time: float) -> None:
        """`max_time` is how many seconds a job may run in all."""
        self._store = store
        self._now = store.now
        self._max_time = max_time

    def start(
        self,
        room: str,
        connid: str,
        time: float,
        actor: Actor,
        *,
        note: str | None = None,
        lease: float | None = None,
        stoppable: Stoppable | None = None,
        replace: bool = False,
    ) -> Submitted:
        """Start a job. A conflict with the one that is running under the connid already, unless
        that is to be replaced.
        """
        job = self._job(room, connid, time, actor, note, lease, stoppable)
        return self._store.submit(StartJob(job, replacing(actor) if replace else None, None, actor))

    async def start_once(
        self,
        room: str,
        connid: str,
        time: float,
        actor: Actor,
        *,
        key: str,
        note: str | None = None,
        lease: float | None = None,
        stoppable: Stoppable | None = None,
        replace: bool = False,
    ) -> Entry:
        """`start` a job unless it has been started with this key before, by the same owner.

        Raises `Repeated` where it has, and what `outcome` does.
        """
        job = self._job(room, connid, time, actor, note, lease, stoppable, key)
        change = StartJob(job, replacing(actor) if replace else None, actor.owner, actor)
        try:
            entries = await self._store.start_once(change)
        except Stale as stale:
            raise await self._refused(change, stale) from None
        return entries[-1]

    def _job(
        self,
        room: str,
        connid: str,
        time: float,
        actor: Actor,
        note: str | None,
        lease: float | None,
        stoppable: Stoppable | None,
        key: str | UnsetType = UNSET,
    ) -> Job:
        """The job that is to be started now."""
        now = self._now()
        return Job(
            connid=connid,
            run=new_run(now),
            room=room,
            time=time,
            started_at=now,
            deadline=now + time,
            by=actor.name,
            note=note,
            lease=lease,
            stoppable=UNSET if stoppable is None else stoppable,
            key=key,
        )

    def kill(
        self, room: str, connid: str, actor: Actor, *, run: str | None, reason: str | None
    ) -> Submitted:
        """Kill the job that is running under `connid`, if it is that `run` where one is given."""
        how = KillDetails(run, actor.name, actor.via, reason)
        return self._store.submit(EndJob(room, connid, self._now(), how, None, actor))

    def extend(
        self,
        room: str,
        connid: str,
        time: float,
        actor: Actor,
        *,
        run: str | None,
        deadline: float | None,
    ) -> Submitted:
        """Give the job that is running under `connid` more time, if it is that `run`, and is to
        end at that `deadline`, where one is given."""
        return self._store.submit(
            ExtendJob(room, connid, self._now(), time, self._max_time, run, deadline, actor)
        )

    def finish(
        self,
        room: str,
        connid: str,
        run: str,
        outcome: Outcome,
        result: Raw,
        actor: Actor,
    ) -> Submitted:
        """End a job because its owner says that the work is over."""
        how = FinishDetails(run, outcome, result)
        return self._store.submit(EndJob(room, connid, self._now(), how, actor.owner, actor))

    def progress(
        self,
        room: str,
        connid: str,
        run: str,
        done: float | None,
        note: str | None,
        actor: Actor,
    ) -> Submitted:
        """Keep the owner's latest report, and renew the job's lease."""
        progress = Progress(room, self._now(), connid, run, done, note)
        return self._store.submit(ReportProgress(progress, actor.owner, actor))

    async def outcome(self, submitted: Submitted) -> list[Entry]:
        """The entries that a change has made, once it is durable. Raises `Conflict`, `NotRunning`,
        `Forbidden`, `TooMany` and `Unavailable`."""
        try:
            return await self._made_or_amended(submitted)
        except (Stale, Foreign) as refusal:
            raise await self._refused(submitted.change, refusal) from None

    async def _made_or_amended(self, submitted: Submitted) -> list[Entry]:
        """The entries that a change has made. A `finish` that comes too late amends the record of
        its run where that was lost. Raises `Stale`, `Foreign`."""
        try:
            return await submitted
        except Stale as stale:
            change = submitted.change
            if not isinstance(change, EndJob) or isinstance(change.how, KillDetails):
                raise
            room, connid, how = change.room, change.connid, change.how
            said = (how.outcome, how.result, change.owner, change.actor)
            try:
                return await self._store.annotate(
                    AmendJob(room, connid, how.run, self._now(), *said)
                )
            except Stale:
                raise stale from None

    async def stopped(
        self, room: str, connid: str, run: str, exit: int | None, actor: Actor
    ) -> EndedJob | None:
        """Record that the work of a job that was ended for its owner has really stopped; a second
        time changes nothing.

        None when the job, ended long ago, leaves the history in the same moment, or when it cannot
        be read any more.
        """
        owner = actor.owner
        stop = StopJob(room, connid, run, self._now(), exit, owner, actor)
        try:
            await self._stop(stop)
        except Foreign as foreign:
            raise forbidden(connid, foreign.owner) from None
        except Stale as stale:
            job = await self._store.ended(room, connid, run)
            if job is not None and owner not in (None, job.started_by):
                raise forbidden(connid, job.started_by) from None
            if job is None or job.stopped_at is None:
                raise await self._not_running(room, connid, stale.job, run, ENDED_FOR_IT) from None
            return job
        with suppress(Unavailable):  # It has happened, whether it can be read or not.
            return await self._store.ended(room, connid, run)
        return None

    async def _stop(self, stop: StopJob) -> list[Entry]:
        """The entries of a stop. Raises `Stale`, `Foreign`."""
        try:
            return await self._store.submit(stop)
        except Stale:
            return await self._store.annotate(stop)

    async def print(self, room: str, connid: str, run: str, text: str, actor: Actor) -> None:
        """Show what the work prints to those who watch; also after a kill, until it has stopped."""
        try:
            await self._store.print(room, connid, run, text, actor.owner)
        except Foreign as foreign:
            raise forbidden(connid, foreign.owner) from None
        except Stale as stale:
            raise await self._not_running(room, connid, stale.job, run) from None

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

    async def _refused(self, change: Change | AmendJob, refusal: Stale | Foreign) -> CommandError:
        """The error for a change that the store has refused."""
        about: Job | Progress | EndJob | ExtendJob
        if isinstance(change, StartJob):
            about, run = change.job, None
        elif isinstance(change, ReportProgress):
            about, run = change.progress, change.progress.run
        elif isinstance(change, ExtendJob):
            if refusal_of_time := self._not_extended(change, refusal):
                return refusal_of_time
            about, run = change, change.run
        else:
            assert isinstance(change, EndJob), "`stopped` tells itself what was wrong"
            about, run = change, change.how.run
        if isinstance(refusal, Foreign):
            return forbidden(about.connid, refusal.owner)
        if isinstance(change, StartJob):
            return Conflict(
                f"{about.connid} is running already: kill it first, or set if_running to"
                ' "replace" or "keep"',
                job=refusal.job,
            )
        return await self._not_running(about.room, about.connid, refusal.job, run)

    def _not_extended(self, change: ExtendJob, refusal: Stale | Foreign) -> CommandError | None:
        """Why the running job may not have the time that is asked for; None where the run itself is
        not running."""
        job = refusal.job if isinstance(refusal, Stale) else None
        if job is None or change.run not in (None, job.run):
            return None
        if not knows_deadline(job, change):
            return Conflict(
                f"the deadline of {job.connid} has been moved meanwhile: look at it, and ask again",
                job=job,
            )
        return Invalid(
            f"time is too long: {job.connid} may run for {job.time:g} seconds, and no job for more"
            f" than {self._max_time:g} in all (MAX_TIME)",
            field="time",
        )

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
            return NotRunning(f"{connid} is running as another run, {current.run}", job=ended)
        return NotRunning(f"{connid} is not {state} in room {room}", job=ended)


class Timeouts:
    """Ends jobs whose time has run out, or whose lease was not renewed: one task for all."""

    def __init__(self, store: Store, watch: Watch, lateness: Histogram) -> None:
        """`lateness` learns how long after its due time each job was ended."""
        self._store = store
        self._watch = watch
        self._lateness = lateness
        self._ending = asyncio.Lock()

    async def run(self) -> None:
        """End what is due, until cancelled."""
        while True:
            if not await self.end_due():
                await self._store.until_due(NAP)
            # After a pause what has come in meanwhile, such as a report, is older than this.
            for _ in range(TURNS):
                await asyncio.sleep(0)

    async def end_due(self) -> int:
        """End the jobs that are due now, or the first of them where they are many; how many."""
        async with self._ending:
            self._watch.look()
            due = await self._store.take_due(ROUND)
            now = self._store.now()
            ends = [(item, self._store.submit(ending(item, now))) for item in due]
            for item, end in ends:
                # Not by who waits below: when the server stops that is cancelled.
                end.then(partial(self._ended, item, end))
            for _, end in ends:
                # It was killed or finished in the same moment, or it comes due again.
                with suppress(Stale, Unavailable):
                    await end
            return len(due)

    def _ended(self, due: Due, end: Submitted) -> None:
        """Note how late a job was ended that was due."""
        if end.error is None:
            self._lateness.observe(self._store.now() - due.at)


def ending(due: Due, now: float) -> EndJob:
    """The end of a job that is due."""
    job = due.job
    outcome: Outcome = "elapsed" if due.at >= job.deadline else "lost"
    late = now - due.at > LATE_AFTER or due.missed
    return EndJob(job.room, job.connid, now, FinishDetails(job.run, outcome, NULL, late))


def replacing(actor: Actor) -> KillDetails:
    """How the job ends that another one takes the place of."""
    return KillDetails(None, actor.name, actor.via, "replaced")


def forbidden(connid: str, owner: str) -> Forbidden:
    """The error for a report of a job of another owner."""
    return Forbidden(f"{connid} belongs to {owner}: only its owner may report on it")


def new_run(now: float) -> str:
    """A new run id: ids that were made later sort later, to the microsecond, so that rows by run
    are kept in the order in which they come. Of its 96 bits 52 are the time, until the year 2112.
    """
    micros = int(now * 1_000_000) % (1 << 52)
    return (micros << 44 | getrandbits(44)).to_bytes(12, "big").hex()
