"""The state of one room, as its log tells it: nothing else may change a board.

A board is what a snapshot shows. Replaying a room's log onto an empty board gives the same board,
whoever replays it: the store at start-up, another node, a test. When a room is evicted, its board
is empty again, at a seq above all of it.
"""

from collections import deque
from collections.abc import Iterable
from sys import getsizeof

import msgspec
from msgspec import UNSET

from server.contract.messages import (
    NULL,
    Amended,
    EndedJob,
    Extended,
    Finished,
    Job,
    Killed,
    LogEvent,
    Progress,
    Reported,
    Started,
    Stopped,
)

ENDED_SHOWN = 50
"""How many of the last ended jobs a board remembers, and a snapshot shows."""


ENDED = 768
"""Bytes that an ended job takes beside its texts and its result, about."""


class Board:
    """The running jobs of a room by connid, its last ended jobs, and the seq that they stand at."""

    __slots__ = ("__weakref__", "ended", "room", "running", "seq", "weight", "whole")

    def __init__(self, room: str, seq: int = 0) -> None:
        """`seq` is where the room stands without a log."""
        self.room = room
        self.seq = seq
        self.running: dict[str, Job] = {}
        self.ended: deque[EndedJob] = deque(maxlen=ENDED_SHOWN)
        self.weight = 0
        """Bytes that its ended jobs take, about."""
        self.whole = True
        """Whether all of its last ended jobs are here: the store may have been left the older."""

    def apply(self, event: LogEvent) -> None:
        """Take the next event of the log.

        Raises `ValueError` when it is not the next one: a log without holes has no such event.
        """
        if event.seq != self.seq + 1:
            raise ValueError(f"{self.room}: event {event.seq} cannot follow {self.seq}")
        self.seq = event.seq
        if isinstance(event, Started):
            self.running[event.job.connid] = event.job
        elif isinstance(event, Killed | Finished):
            self._add(end(self.running.pop(event.connid), event))
        elif isinstance(event, Extended):
            # In place: whoever waits for its time looks at the same job.
            job = self.running[event.connid]
            job.time, job.deadline = event.time, event.deadline
        else:
            self._annotate(event)

    def empty(self, seq: int) -> None:
        """Be the board of a room without a log again, one that stands at `seq`."""
        self.seq = seq
        self.running.clear()
        self.ended.clear()
        self.weight, self.whole = 0, True

    def leave_ended(self) -> None:
        """Hold no ended jobs: the store has them."""
        self.ended.clear()
        self.weight, self.whole = 0, False

    def recall(self, jobs: Iterable[EndedJob]) -> None:
        """Hold all of the last ended jobs again: these, which the store has read, the oldest first,
        and those that have ended since it was asked for them."""
        newer = {job.seq: job for job in self.ended}
        older = [job for job in jobs if job.seq <= self.seq and job.seq not in newer]
        self.leave_ended()
        self.whole = True
        for job in (*older, *newer.values()):
            self._add(job)

    def report(self, progress: Progress) -> None:
        """Take the latest progress of a job; that of a run that is not running is ignored."""
        job = self.running.get(progress.connid)
        if job is not None and job.run == progress.run:
            job.progress = reported(progress)

    def find_ended(self, connid: str, run: str | None = None) -> EndedJob | None:
        """The last ended job of `connid`, or the one of that `run`, where it is remembered."""
        for job in reversed(self.ended):
            if job.connid == connid and run in (None, job.run):
                return job
        return None

    def _add(self, job: EndedJob) -> None:
        if len(self.ended) == ENDED_SHOWN:
            self.weight -= weigh(self.ended[0])
        self.ended.append(job)
        self.weight += weigh(job)

    def _annotate(self, event: Stopped | Amended) -> None:
        for position, job in enumerate(self.ended):
            if job.run == event.run:
                annotated = annotate(job, event)
                self.ended[position] = annotated
                self.weight += weigh(annotated) - weigh(job)


def reported(progress: Progress) -> Reported:
    """What a job keeps of its latest progress."""
    return Reported(progress.done, progress.note, progress.at)


def retold(job: Job, report: Reported, now: float) -> Progress:
    """The event of a report of a job, to be sent once more; `now` is for one without a time."""
    at = now if report.at is UNSET else report.at
    return Progress(job.room, at, job.connid, job.run, report.done, report.note)


def says_more(progress: Progress, known: Reported | None) -> bool:
    """Whether a progress is a report: one without a word, or with those of the last one, only
    renews the lease."""
    said = (progress.done, progress.note)
    return said != (None, None) and (known is None or said != (known.done, known.note))


def end(job: Job, event: Killed | Finished) -> EndedJob:
    """The ended job that a running one becomes by the event of its end."""
    killed = event if isinstance(event, Killed) else None
    finished = event if isinstance(event, Finished) else None
    return EndedJob(
        connid=job.connid,
        run=job.run,
        room=job.room,
        state="killed" if killed else "finished",
        seq=event.seq,
        time=job.time,
        started_at=job.started_at,
        deadline=job.deadline,
        ended_at=event.at,
        started_by=job.by,
        by=killed.by if killed else job.by,
        note=job.note,
        progress=job.progress,
        lease=job.lease,
        reason=killed.reason if killed else None,
        via=killed.via if killed else None,
        outcome=finished.outcome if finished else None,
        result=finished.result if finished else NULL,
        late=finished is not None and finished.late is True,
        stoppable=job.stoppable,
        key=job.key,
    )


def annotate(job: EndedJob, event: Stopped | Amended) -> EndedJob:
    """The ended job with what its owner has said of it afterwards."""
    if isinstance(event, Stopped):
        return msgspec.structs.replace(job, exit=event.exit, stopped_at=event.at)
    return msgspec.structs.replace(
        job, outcome=event.outcome, result=event.result, amended_at=event.at
    )


def may_stop(job: EndedJob) -> bool:
    """Whether the owner may still say that the work has stopped: it has not said how it ended."""
    return job.stopped_at is None and (job.state == "killed" or job.outcome in ("elapsed", "lost"))


def may_amend(job: EndedJob) -> bool:
    """Whether the owner may still say how the work truly ended."""
    return job.outcome == "lost"


def weigh(job: EndedJob) -> int:
    """The bytes that an ended job takes, about."""
    size = ENDED + memoryview(job.result).nbytes
    for text in (job.note, job.reason, job.progress and job.progress.note):
        if text:
            size += getsizeof(text)
    return size
