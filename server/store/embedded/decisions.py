"""What a change does to a room: decided against what is durable and what is pending on top of that.

Pure: it knows neither asyncio nor a disk. What it decides is in the batch, which is written later,
and in the ledgers, which are brought back where that fails.
"""

from collections.abc import Callable
from copy import copy
from typing import Any

from msgspec import Raw

from server.board import annotate, end, may_amend, may_stop, reported, says_more
from server.config import Config
from server.contract.messages import (
    Amended,
    EndedJob,
    Extended,
    Job,
    Killed,
    Started,
    Stopped,
    encode,
)
from server.store.embedded.batch import Batch
from server.store.embedded.ledger import Decided, Ledger, check_owner
from server.store.embedded.retention import Retention
from server.store.embedded.room_table import RoomTable
from server.store.embedded.schedule import Schedule
from server.store.interface import (
    Annotation,
    EndJob,
    Entry,
    ExtendJob,
    FinishDetails,
    KillDetails,
    ReportProgress,
    Stale,
    StartJob,
    StopJob,
    elapsed,
    ending,
    may_extend,
    too_many,
)


class Decisions:
    """Decides changes, one after the other, into the batch of the next commit."""

    def __init__(
        self, rooms: RoomTable, retention: Retention, schedule: Schedule, config: Config
    ) -> None:
        self._rooms = rooms
        self._retention = retention
        self._schedule = schedule
        self._config = config
        self.batch = Batch()
        """What is decided and not being written yet."""
        self.running = 0
        """How many jobs run, as decided."""
        self.deciders: dict[type[Any], Callable[[Any, Decided], None]] = {
            StartJob: self._start_job,
            EndJob: self._end_job,
            ExtendJob: self._extend_job,
            StopJob: self._stop_job,
            ReportProgress: self._report_progress,
        }
        """What decides each kind of change. Raises `Stale`, `Foreign`, `TooMany`."""

    def begin(self) -> None:
        """Begin with what is durable: nothing is pending."""
        self.batch = Batch()
        self.running = sum(ledger.running for ledger in self._rooms.ledgers.values())

    def take_batch(self) -> Batch:
        """The batch that is to be written now; the next one begins."""
        batch, self.batch = self.batch, Batch()
        self._retention.trim(batch)
        return batch

    def annotate(self, ended: EndedJob | None, change: Annotation, decided: Decided) -> None:
        """Decide what is said of a job that has ended, which was read as `ended`. Raises `Stale`,
        `Foreign`."""
        ledger = self._rooms.ledger(change.room)
        if ended is None or ended.seq < ledger.kept_from or change.run in ledger.stops:
            raise Stale(ledger.current(change.connid))
        allowed = may_stop(ended) if isinstance(change, StopJob) else may_amend(ended)
        if not allowed:
            raise Stale(ledger.current(change.connid))
        check_owner(change.owner, ended.started_by)
        ledger.seq += 1
        where = (change.room, ledger.seq, change.at, change.connid, change.run)
        event: Stopped | Amended
        if isinstance(change, StopJob):
            event = Stopped(*where, change.exit)
        else:
            event = Amended(*where, change.outcome, change.result)
        encoded = encode(annotate(ended, event))
        self._add(ledger, decided, Entry(event, encode(event), Raw(encoded)), change.run)
        self.batch.annotated.append((change.room, ended.seq, event.name, ledger.seq, encoded))

    def _start_job(self, change: StartJob, decided: Decided) -> None:
        job, kill = change.job, change.replaces
        ledger = self._rooms.ledgers.get(job.room)
        current = ledger.current(job.connid) if ledger else None
        if current is None:
            self._check_caps(ledger)
            ledger = ledger or self._rooms.begin_log(job.room)
        elif kill is None or ledger is None:
            raise Stale(current)
        else:
            self._write_end(ledger, current, job.started_at, kill, decided)
        ledger.seq += 1
        ledger.running += 1
        self.running += 1
        event = Started(job.room, ledger.seq, job.started_at, job)
        encoded = encode(job)
        raw = Raw(encoded)
        self._add(ledger, decided, Entry(event, event.encoded(raw), raw), job.run)
        self.batch.running[job.run] = encoded
        self._become(ledger, job.connid, job, decided)

    def _end_job(self, change: EndJob, decided: Decided) -> None:
        ledger = self._rooms.ledger(change.room)
        job = ledger.expect(change.connid, change.how.run, change.owner)
        if elapsed(change.how) and job.deadline > change.at:
            raise Stale(job)  # It has been given more time since it was due.
        self._write_end(ledger, job, change.at, change.how, decided)
        self._become(ledger, job.connid, None, decided)

    def _extend_job(self, change: ExtendJob, decided: Decided) -> None:
        ledger = self._rooms.ledger(change.room)
        known = ledger.expect(change.connid, change.run, None)
        if not may_extend(known, change):
            raise Stale(known)
        job = copy(known)
        job.time += change.time
        job.deadline += change.time
        ledger.seq += 1
        where = (change.room, ledger.seq, change.at, change.connid, job.run)
        who = (change.actor.name, change.actor.via)
        event = Extended(*where, job.time, job.deadline, *who)
        encoded = encode(job)
        self._add(ledger, decided, Entry(event, encode(event), Raw(encoded)), job.run)
        self.batch.running[job.run] = encoded
        self.batch.extended.append((change.room, ledger.seq, job.run))
        self._become(ledger, job.connid, job, decided)

    def _write_end(
        self,
        ledger: Ledger,
        job: Job,
        at: float,
        how: KillDetails | FinishDetails,
        decided: Decided,
    ) -> None:
        ledger.seq += 1
        ledger.running -= 1
        self.running -= 1
        event = ending(job, ledger.seq, at, how)
        ended = encode(end(job, event))
        self._add(ledger, decided, Entry(event, encode(event), Raw(ended)), job.run)
        unanswered = int(isinstance(event, Killed))
        row = (job.room, event.seq, job.connid, job.run, unanswered, job.key or None, ended)
        self.batch.running[job.run] = None
        self.batch.ended.append(row)

    def _stop_job(self, change: StopJob, decided: Decided) -> None:
        ledger = self._rooms.ledger(change.room)
        killed = ledger.unanswered.get(change.run)
        if killed is None or killed.connid != change.connid or change.run in ledger.stops:
            raise Stale(ledger.current(change.connid))
        check_owner(change.owner, killed.owner)
        ledger.seq += 1
        event = Stopped(change.room, ledger.seq, change.at, change.connid, change.run, change.exit)
        self._add(ledger, decided, Entry(event, encode(event)), change.run)
        ledger.stops.add(change.run)
        row = (ledger.seq, change.exit, repr(change.at), change.room, killed.seq)
        self.batch.stopped.append(row)

    def _report_progress(self, change: ReportProgress, decided: Decided) -> None:
        progress = change.progress
        ledger = self._rooms.ledger(progress.room)
        known = ledger.expect(progress.connid, progress.run, change.owner)
        # Before the report is durable: the timeout must not come in between.
        self._schedule.renew(progress.run, progress.at)
        if not says_more(progress, known.progress):
            return
        job = copy(known)
        job.progress = reported(progress)
        self.batch.running[job.run] = encode(job)
        self._become(ledger, job.connid, job, decided)
        decided.ledger = ledger
        decided.progress = progress

    def _add(self, ledger: Ledger, decided: Decided, entry: Entry, run: str) -> None:
        """Put an entry of the log into the batch."""
        decided.ledger = ledger
        decided.entries.append(entry)
        event = entry.event
        seq = event.seq
        self.batch.log.append((event.room, seq, run, event.name, entry.body))
        if seq - ledger.oldest >= self._retention.most_kept:
            self._retention.overgrown.add(ledger)

    def _become(self, ledger: Ledger, connid: str, job: Job | None, decided: Decided) -> None:
        """Remember what a job has become until that is durable, None when it has ended."""
        decided.connid = connid
        ledger.pending[connid] = (job, decided)

    def _check_caps(self, ledger: Ledger | None) -> None:
        config = self._config
        if config.max_running and self.running >= config.max_running:
            raise too_many(config, "running")
        if ledger is None:
            if config.max_rooms and len(self._rooms.ledgers) >= config.max_rooms:
                raise too_many(config, "rooms")
        elif config.max_running_room and ledger.running >= config.max_running_room:
            raise too_many(config, "room")
