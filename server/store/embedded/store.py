"""The store of a server that is one process: decided in memory, made durable in one file.

A change is decided at once against the boards and the changes still `pending`; a batch of them is
written while the next one gathers (group commit), and only then do the boards change and the
callers hear. When a batch cannot be written, everything pending is forgotten: the boards never
saw it, so nothing has to be undone.
"""

import asyncio
import logging
import math
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from msgspec import Raw
from msgspec.structs import replace

from server.board import ENDED_SHOWN, Board, annotate, end, may_amend, may_stop
from server.budget import Shares
from server.clock import STEP, Clock
from server.config import Config
from server.contract.messages import (
    Amended,
    EndedJob,
    Job,
    Killed,
    Presence,
    Printed,
    Reported,
    Started,
    Stopped,
    encode,
)
from server.counters import Histogram
from server.errors import TooMany, Unavailable
from server.store.completion import Completion, notify_all
from server.store.embedded.batch import Backend, Batch, Lost
from server.store.embedded.ledger import Decided, Ledger, check_owner
from server.store.embedded.memory import Memory
from server.store.embedded.output_buffer import Outputs
from server.store.embedded.schedule import Schedule
from server.store.embedded.sqlite import Database
from server.store.embedded.turns import Turns
from server.store.embedded.worker import Worker
from server.store.interface import (
    AmendJob,
    Annotation,
    Change,
    Due,
    EndJob,
    Entry,
    FinishDetails,
    Foreign,
    KillDetails,
    Listener,
    Record,
    Repeated,
    ReportProgress,
    Stale,
    StartJob,
    StopJob,
    Store,
    StoreError,
    Submitted,
    check_whole,
    ending,
    ignore,
    too_many,
)

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PROBE = 65_536
"""Bytes that are written to find out whether there is room again: about what a busy commit is."""
TOLD_AT_ONCE = 200
"""Entries told before the loop may turn to its other work."""
LOOKED_AT_ONCE = 1000
"""Rooms that a sweep looks at before the loop may turn to its other work."""
EVICTED_AT_ONCE = 1000
"""Entries of logs that one commit deletes, and the rest of those of the last room."""
TRIM_SLACK = 100
"""Entries by which a log may outgrow its bound before it is cut back, to cut seldom."""


class EmbeddedStore(Store):
    """One process behind a group commit; `DATABASE` names its file."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.now = self.clock.now
        self.commits = Histogram()
        self._config = config
        # Bytes of ended jobs that the boards hold, about, and may hold.
        self._held = 0
        self._most_held = Shares(config).ended
        in_memory = config.database == ":memory:"
        self._backend: Backend = (
            Memory() if in_memory else Database(config.database, config.max_wal, self._most_held)
        )
        # The only thread that touches a backend that blocks.
        self._worker: Worker | None = None
        # Every room that has a log, or is about to have one.
        self._rooms: dict[str, Ledger] = {}
        # The boards of rooms without a log, for as long as somebody looks at them: rooms are free
        # to name, so an empty one must cost nothing.
        self._empty: WeakValueDictionary[str, Board] = WeakValueDictionary()
        # The seq at which they stand.
        self._floor = 0
        # The rooms that somebody is in.
        self._present: set[str] = set()
        # Waits for the commit that evicts rooms, if one is to.
        self._sweeping: Completion[None] | None = None
        # How many jobs run, as decided.
        self._total = 0
        # Held by what reads the record before it is decided: a start with a key, by room, connid
        # and key, and what is said of an ended run, by that.
        self._turns = Turns()
        self._schedule = Schedule(config.retry_interval, self._runs)
        # How far the machine's date is ahead of the clock, and what of that is durable.
        self._drift = self._drift_kept = 0.0
        # When the commit that is under way was begun, by the monotonic clock.
        self._committing: float | None = None
        self._outputs = Outputs(config)
        self._deciders: dict[type[Any], Callable[[Any, Decided], None]] = {
            StartJob: self._start_job,
            EndJob: self._end_job,
            StopJob: self._stop_job,
            ReportProgress: self._report_progress,
        }
        # Why nothing may be written, and why nothing could be; empty when all is well.
        self._lost = self._unwritable = ""
        # The rooms whose logs were said to be unreadable.
        self._unreadable: set[str] = set()
        # When something was last written, by the loop's clock.
        self._written_at = -math.inf
        self._waiting: list[Decided] = []
        self._batch = Batch()
        self._most_kept = config.history + TRIM_SLACK
        # The rooms whose logs have outgrown their bound.
        self._overgrown: set[Ledger] = set()
        # Set when nothing more may be submitted, and when nothing may be read either.
        self._closed = False
        self._stopped = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def open(self, listener: Listener, record: Record = ignore) -> None:
        self._listener = listener
        self._record = record
        if self._backend.blocks:
            self._worker = Worker("store")
        try:
            self.epoch, loaded = await self._call(self._backend.open)
            self._floor = await self._call(self._backend.floor)
            drift, last_at = await self._call(self._backend.clock)
        except StoreError:
            self._stop_worker()
            raise
        if self._backend.unwritable:
            self._note_failure(self._backend.unwritable)
        for name, room in loaded.items():
            self._rooms[name] = Ledger(room.board, room.oldest, room.unanswered, room.last_at)
            self._held += room.board.weight
            self._total += len(room.board.running)
            last_at = max(last_at, self._rooms[name].last_at)
        self._begin_clock(drift, last_at)
        for room in loaded.values():
            self._schedule.open(room.board.running.values(), self.now())

    def _begin_clock(self, drift: float, last_at: float) -> None:
        """Go on with the time: as far from the machine's date as it was, where jobs are running by
        it, and never before the last event."""
        self._drift_kept = drift
        at = self.clock.wall() - (drift if self._total else 0.0)
        self.clock.begin(max(at, last_at))
        # Else what was kept would count when jobs run by another time.
        self._drift = 0.0 if abs(self.clock.drift) < STEP else self.clock.drift

    async def ping(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._written_at > self._config.database_check:
            await self._probe(1)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._commit_all())
            tasks.create_task(self._watch())

    async def _commit_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._commit()
            if not self._waiting and self._sweeping is None:
                self._idle.set()
            elif not self._backend.blocks:
                # Else whoever asks on when answered would keep all others from their turn.
                await asyncio.sleep(0)

    async def _watch(self) -> None:
        """Look whether the file is there and can be written, until cancelled."""
        while self._backend.blocks:
            await asyncio.sleep(self._config.database_check)
            if self._stopped:
                return
            await self._check()
            if self._unwritable and not self._lost:
                with suppress(Unavailable):
                    await self._probe(PROBE)

    async def _check(self) -> None:
        """Look whether the file is where it was left."""
        try:
            await self._call(self._backend.check)
        except Lost as lost:
            if not self._lost:
                log.error("nothing is written any more: %s", lost)
            self._lost = str(lost)
        else:
            if self._lost:
                log.warning("the file is as it was left, and is written again")
            self._lost = ""
        self._judge()

    async def _probe(self, size: int) -> None:
        """Find out whether something can be written. Raises `Unavailable`."""
        if self._stopped:
            raise Unavailable("the server is stopping")
        try:
            await self._call(self._backend.probe, size)
        except sqlite3.Error as error:
            self._note_failure(error)
            raise Unavailable(self._unwritable) from error
        self._note_written()

    def _note_written(self) -> None:
        self._written_at = asyncio.get_running_loop().time()
        if self._unwritable:
            self._unwritable = ""
            self._judge()

    def _note_failure(self, error: object) -> None:
        self._unwritable = f"the store cannot be written: {error}"
        self._judge()

    def _judge(self) -> None:
        """Say whether all is well."""
        self.why = self._lost or self._unwritable
        self.ready = not self.why

    async def close(self) -> None:
        self._closed = True
        await self._idle.wait()
        self._stopped = True
        await self._call(self._backend.close)
        self._stop_worker()

    def submit(self, change: Change) -> Submitted:
        return self._submit(change, self._deciders[type(change)])

    def _submit(
        self, change: Change | AmendJob, decide: Callable[[Any, Decided], None]
    ) -> Submitted:
        completion = Decided(change=change)
        if self._closed:
            completion.reject(Unavailable("the server is stopping"))
            return completion
        if len(self._waiting) >= self._config.max_pending:
            completion.reject(Unavailable("too many commands are waiting to be written"))
            return completion
        if self._lost:
            completion.reject(Unavailable(f"{self._lost}; nothing was changed"))
            return completion
        try:
            decide(change, completion)
        except (Stale, Foreign, TooMany) as refusal:
            completion.refusal = refusal
        if not self._waiting:
            self._begin_commit()
        self._waiting.append(completion)
        return completion

    def begin_leases_anew(self) -> None:
        self._schedule.begin_leases_anew(self.now())

    def keep_drift(self, drift: float) -> None:
        self._drift = drift
        if not self._closed:
            self._begin_commit()

    async def start_once(self, change: StartJob) -> list[Entry]:
        job = change.job
        async with self._turns.turn((job.room, job.connid, job.key)):
            if before := await self._started_with(change):
                raise Repeated(before)
            now = self.now()
            at_last = replace(job, started_at=now, deadline=now + job.time)
            return await self.submit(replace(change, job=at_last))

    async def annotate(self, change: Annotation) -> list[Entry]:
        async with self._turns.turn(change.run):
            ended = await self.ended(change.room, change.connid, change.run)
            at_last = replace(change, at=self.now())
            return await self._submit(at_last, partial(self._annotate, ended))

    async def _started_with(self, change: StartJob) -> Job | EndedJob | None:
        """The job that was started before with the key of this one."""
        job, owner = change.job, change.owner
        assert isinstance(job.key, str), "only such a start is made once"
        # What has ended is durable by now, where it is not running.
        running = await self.running(job.room, job.connid)
        if running is not None and running.key == job.key and owner in (None, running.by):
            return running
        for ended in await self._ask(self._backend.started_with, job.room, job.connid, job.key):
            if owner in (None, ended.started_by):
                return ended
        return None

    async def take_due(self, limit: int) -> list[Due]:
        # Owners who wait for what is being written report no more until it is.
        return self._schedule.take(self.now(), limit, leases=not self._stalls())

    async def until_due(self, most: float) -> None:
        await self._schedule.wait(self.now(), most)

    @property
    def scheduled(self) -> int:
        """Due times that are held in memory, those included that are obsolete."""
        return len(self._schedule)

    async def counts(self) -> Mapping[str, int]:
        boards = [ledger.board for ledger in self._rooms.values()]
        return {board.room: len(board.running) for board in boards if board.running}

    async def running(self, room: str, connid: str) -> Job | None:
        ledger = self._rooms.get(room)
        if ledger is None:
            return None
        if connid in ledger.pending:
            # Not until nothing is pending: a busy owner's reports would have it wait for ever.
            with suppress(Exception):  # Its refusal is for the one who asked for it.
                await ledger.pending[connid][1]
        return ledger.board.running.get(connid)

    async def ended(self, room: str, connid: str, run: str | None = None) -> EndedJob | None:
        ledger = self._rooms.get(room)
        if ledger is None:
            return None
        if found := ledger.board.find_ended(connid, run):
            return found
        jobs = await self._ask(self._backend.history, room, connid, run, None, 1)
        return jobs[0] if jobs else None

    async def board(self, room: str) -> Board:
        if ledger := self._rooms.get(room):
            if not ledger.board.whole:
                await self._recall(ledger)
            return ledger.board
        return self._empty_board(room)

    async def _recall(self, ledger: Ledger) -> None:
        """Have a board hold its last ended jobs again."""
        board = ledger.board
        jobs = await self._ask(self._backend.history, board.room, None, None, None, ENDED_SHOWN)
        if not board.whole:
            before = board.weight
            board.recall(reversed(jobs))
            self._held += board.weight - before
            if self._held > self._most_held:
                self._leave_ended(ledger)

    def _leave_ended(self, but: Ledger) -> None:
        """Have the boards of the rooms in which nothing has happened for longest hold no ended jobs
        any more, those of `but` excepted, until there is room for some time."""
        ledgers = [ledger for ledger in self._rooms.values() if ledger.board.weight]
        self._held = sum(ledger.board.weight for ledger in ledgers)
        for ledger in sorted(ledgers, key=attrgetter("last_at")):
            if self._held <= self._most_held * 7 // 8:
                break
            if ledger is not but:
                self._held -= ledger.board.weight
                ledger.board.leave_ended()

    @property
    def held(self) -> Mapping[str, int]:
        ended = sum(ledger.board.weight for ledger in self._rooms.values())
        return {"ended": ended, "output": self._outputs.size}

    async def seq(self, room: str) -> int:
        ledger = self._rooms.get(room)
        return (ledger.board if ledger else self._empty_board(room)).seq

    async def sweep(self) -> None:
        before = self.now() - self._config.room_retention
        rooms = deque(self._rooms)
        while rooms and not self._closed:
            if self._evict(rooms, before):
                written = self._sweeping = self._sweeping or Completion()
                self._begin_commit()
                await written
            else:
                await asyncio.sleep(0)

    def announce(self, presence: Presence) -> None:
        if presence.watching:
            self._present.add(presence.room)
        else:
            self._present.discard(presence.room)
        self._listener.present(presence)

    async def print(
        self, room: str, connid: str, run: str, text: str, owner: str | None = None
    ) -> None:
        ledger = self._known(room)
        whose = self._outputs.owner(room, connid, run) or ledger.owner(connid, run)
        if whose is None:
            job = await self.ended(room, connid, run)
            whose = job.started_by if job else None
        if whose is None:
            raise Stale(ledger.board.running.get(connid))
        check_owner(owner, whose)
        if not text:
            return
        offset = self._outputs.add(room, connid, run, whose, text, self.now())
        self._listener.printed(room, connid, run, offset)

    async def printed(self, room: str, run: str, after: int = 0) -> Printed:
        self._outputs.forget(self.now())
        return self._outputs.read(run, after)

    async def read(self, room: str, after: int) -> list[Entry] | None:
        ledger = self._rooms.get(room)
        if ledger is None:
            return [] if after >= self._empty_board(room).seq else None
        if after < max(ledger.oldest - 1, ledger.board.seq - self._config.history):
            return None
        seq = ledger.board.seq
        try:
            entries = await self._ask(self._backend.read, room, after)
            if after < ledger.oldest - 1:  # Meanwhile the log was cut, or evicted.
                return None
            check_whole(entries, after, seq)
        except Unavailable:
            raise
        except Exception as error:
            # Whoever asks can do with the board, which is not read from there.
            if room not in self._unreadable:
                self._unreadable.add(room)
                log.error("the log of %s cannot be read after %d: %s", room, after, error)
            return None
        return entries

    async def read_run(self, room: str, connid: str, run: str) -> list[Entry]:
        return await self._ask(self._backend.read_run, room, connid, run)

    async def history(
        self, room: str, connid: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        return await self._ask(self._backend.history, room, connid, None, before, limit)

    def _start_job(self, change: StartJob, completion: Decided) -> None:
        job, kill = change.job, change.replaces
        ledger = self._rooms.get(job.room)
        current = ledger.current(job.connid) if ledger else None
        if current is None:
            self._check_caps(ledger)
            ledger = ledger or self._new_log(job.room)
        elif kill is None or ledger is None:
            raise Stale(current)
        else:
            self._write_end(ledger, current, job.started_at, kill, completion)
        ledger.seq += 1
        ledger.running += 1
        self._total += 1
        event = Started(job.room, ledger.seq, job.started_at, job)
        encoded = encode(job)
        raw = Raw(encoded)
        self._add(ledger, completion, Entry(event, event.encoded(raw), raw), job.run)
        self._batch.running[job.run] = encoded
        self._become(ledger, job.connid, job, completion)

    def _end_job(self, change: EndJob, completion: Decided) -> None:
        ledger = self._known(change.room)
        job = ledger.expect(change.connid, change.how.run, change.owner)
        self._write_end(ledger, job, change.at, change.how, completion)
        self._become(ledger, job.connid, None, completion)

    def _write_end(
        self,
        ledger: Ledger,
        job: Job,
        at: float,
        how: KillDetails | FinishDetails,
        completion: Decided,
    ) -> None:
        ledger.seq += 1
        ledger.running -= 1
        self._total -= 1
        event = ending(job, ledger.seq, at, how)
        ended = encode(end(job, event))
        self._add(ledger, completion, Entry(event, encode(event), Raw(ended)), job.run)
        unanswered = int(isinstance(event, Killed))
        row = (job.room, event.seq, job.connid, job.run, unanswered, job.key or None, ended)
        self._batch.running[job.run] = None
        self._batch.ended.append(row)

    def _stop_job(self, change: StopJob, completion: Decided) -> None:
        ledger = self._known(change.room)
        killed = ledger.unanswered.get(change.run)
        if killed is None or killed.connid != change.connid or change.run in ledger.stops:
            raise Stale(ledger.current(change.connid))
        check_owner(change.owner, killed.owner)
        ledger.seq += 1
        event = Stopped(change.room, ledger.seq, change.at, change.connid, change.run, change.exit)
        self._add(ledger, completion, Entry(event, encode(event)), change.run)
        ledger.stops.add(change.run)
        row = (ledger.seq, change.exit, repr(change.at), change.room, killed.seq)
        self._batch.stopped.append(row)

    def _annotate(self, ended: EndedJob | None, change: Annotation, completion: Decided) -> None:
        """Decide what is said of a job that has ended, as it was read."""
        ledger = self._known(change.room)
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
        self._add(ledger, completion, Entry(event, encode(event), Raw(encoded)), change.run)
        self._batch.annotated.append((change.room, ended.seq, event.name, ledger.seq, encoded))

    def _report_progress(self, change: ReportProgress, completion: Decided) -> None:
        progress = change.progress
        ledger = self._known(progress.room)
        job = copy(ledger.expect(progress.connid, progress.run, change.owner))
        # Before the report is durable: the timeout must not come in between.
        self._schedule.renew(progress.run, progress.at)
        job.progress = Reported(progress.done, progress.note)
        self._batch.running[job.run] = encode(job)
        self._become(ledger, job.connid, job, completion)
        completion.ledger = ledger
        completion.progress = progress

    def _add(self, ledger: Ledger, completion: Decided, entry: Entry, run: str) -> None:
        """Put an entry of the log into the batch."""
        completion.ledger = ledger
        completion.entries.append(entry)
        event = entry.event
        seq = event.seq
        self._batch.log.append((event.room, seq, run, event.name, entry.body))
        if seq - ledger.oldest >= self._most_kept:
            self._overgrown.add(ledger)

    def _become(self, ledger: Ledger, connid: str, job: Job | None, completion: Decided) -> None:
        """Remember what a job has become until that is durable, None when it has ended."""
        completion.connid = connid
        ledger.pending[connid] = (job, completion)

    def _runs(self, job: Job) -> bool:
        """Whether a job is running still."""
        ledger = self._rooms.get(job.room)
        running = ledger.board.running.get(job.connid) if ledger else None
        return running is not None and running.run == job.run

    def _check_caps(self, ledger: Ledger | None) -> None:
        config = self._config
        if config.max_running and self._total >= config.max_running:
            raise too_many(config, "running")
        if ledger is None:
            if config.max_rooms and len(self._rooms) >= config.max_rooms:
                raise too_many(config, "rooms")
        elif config.max_running_room and ledger.running >= config.max_running_room:
            raise too_many(config, "room")

    def _known(self, room: str) -> Ledger:
        """A room that has a log. Raises `Stale`: nothing is running in another."""
        ledger = self._rooms.get(room)
        if ledger is None:
            raise Stale(None)
        return ledger

    def _new_log(self, room: str) -> Ledger:
        board = self._empty_board(room)
        del self._empty[room]
        ledger = self._rooms[room] = Ledger(board, board.seq + 1, {})
        return ledger

    def _empty_board(self, room: str) -> Board:
        board = self._empty.get(room)
        if board is None:
            board = self._empty[room] = Board(room, self._floor)
        return board

    def _evict(self, rooms: deque[str], before: float) -> bool:
        """Look at the first of these rooms, which are taken out, and have the batch evict those
        in which nothing has happened since `before`; whether there are any."""
        floor = self._floor
        looked = entries = 0
        while rooms and looked < LOOKED_AT_ONCE and entries < EVICTED_AT_ONCE:
            room = rooms.popleft()
            looked += 1
            ledger = self._rooms.get(room)
            if ledger is not None and room not in self._present and ledger.idle(before):
                entries += ledger.seq - ledger.oldest + 1
                floor = max(floor, ledger.seq + 1)
                ledger.evict(floor)
                self._batch.evicted[room] = floor
        return entries > 0

    def _begin_commit(self) -> None:
        self._idle.clear()
        self._wake.set()

    def _stalls(self) -> bool:
        """Whether the commit that is under way takes so long that nobody is heard meanwhile."""
        began = self._committing
        return began is not None and time.monotonic() - began > self._config.stall_timeout

    async def _commit(self) -> None:
        completions, self._waiting = self._waiting, []
        batch, self._batch = self._batch, Batch()
        sweeping, self._sweeping = self._sweeping, None
        overgrown, self._overgrown = self._overgrown, set()
        for ledger in overgrown:
            room, seq = ledger.board.room, ledger.board.seq
            if seq - ledger.oldest >= self._most_kept and room not in batch.evicted:
                batch.trimmed[room] = seq - self._config.history
        if self._drift != self._drift_kept:
            batch.drift = self._drift
        if batch.log or batch.running or batch.evicted or batch.drift is not None:
            began = self._committing = time.monotonic()
            try:
                await self._call(self._backend.write, batch)
            except (sqlite3.Error, Lost) as error:
                log.error("the store cannot be written: %s", error)
                if not isinstance(error, Lost):
                    self._note_failure(error)
                self._forget([*completions, *self._waiting])
                if sweeping is not None:
                    sweeping.reject(Unavailable("the store cannot be written"))
                return
            finally:
                if self._stalls():
                    self.begin_leases_anew()
                self._committing = None
            if batch.drift is not None:
                self._drift_kept = batch.drift
            self.commits.observe(time.monotonic() - began)
            self._note_written()
        for room, last in batch.trimmed.items():
            self._rooms[room].trim(last)
        # Before anything waits: what the thread reads from now on is without these rooms.
        if batch.evicted:
            self._show_evicted(batch.evicted)
        if sweeping is not None:
            sweeping.resolve(None)
        for start in range(0, len(completions), TOLD_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            told = completions[start : start + TOLD_AT_ONCE]
            for completion in told:
                self._tell(completion)
            # Not before all are told: who has asked for several goes on with all of them.
            notify_all(told)

    def _show_evicted(self, rooms: Mapping[str, int]) -> None:
        """Show that rooms were evicted, and how high the floor is now."""
        self.rooms_evicted += len(rooms)
        self._floor = max(self._floor, *rooms.values())
        for room, seq in rooms.items():
            ledger = self._rooms[room]
            self._unreadable.discard(room)
            ledger.empty(seq)
            if ledger.seq == seq:
                del self._rooms[room]
                self._empty[room] = ledger.board
            else:  # It is to have another log, which begins there.
                self._listener.emptied(room)
        for board in list(self._empty.values()):
            if board.seq < self._floor or board.room in rooms:
                self._lift(board)

    def _lift(self, board: Board) -> None:
        """Bring the board of a room without a log to the floor."""
        board.empty(self._floor)
        self._listener.emptied(board.room)

    def _forget(self, completions: list[Decided]) -> None:
        """Answer all that is pending `unavailable`: what was decided on top is void as well."""
        self._waiting = []
        self._batch = Batch()
        for room, ledger in list(self._rooms.items()):
            ledger.forget()
            if not ledger.logged:
                del self._rooms[room]
                self._empty[room] = ledger.board
                if ledger.board.seq < self._floor:
                    self._lift(ledger.board)
        self._total = sum(ledger.running for ledger in self._rooms.values())
        for completion in completions:
            completion.reject(Unavailable("the store cannot be written; nothing was changed"))

    def _tell(self, completion: Decided) -> None:
        """Let a durable change be seen: first the board, then who listens."""
        ledger = completion.ledger
        if ledger is not None:
            before = ledger.board.weight
            for entry in completion.entries:
                ledger.settle(entry.event)
                self._schedule.follow(entry.event)
                self._listener.follow(entry)
            if completion.entries:
                self._record(completion.entries, completion.change.actor)
            if completion.progress is not None:
                ledger.board.report(completion.progress)
                self._listener.report(completion.progress)
            pending = ledger.pending.get(completion.connid)
            if pending is not None and pending[1] is completion:
                del ledger.pending[completion.connid]
            self._held += ledger.board.weight - before
            if self._held > self._most_held:
                self._leave_ended(ledger)
        completion.complete(completion.entries, completion.refusal)

    def _stop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    async def _ask(self, read: Callable[..., Result], *args: object) -> Result:
        if self._stopped:
            raise Unavailable("the server is stopping")
        try:
            return await self._call(read, *args)
        except sqlite3.Error as error:
            log.error("the store cannot be read: %s", error)
            raise Unavailable("the store cannot be read") from error

    async def _call(self, work: Callable[..., Result], *args: object) -> Result:
        if self._worker is None:
            return work(*args)
        return await self._worker.do(work, *args)
