"""The store of a server that is one process: decided in memory, made durable in one file.

A change is decided at once against the boards and the changes still `pending`; a batch of them is
written while the next one gathers (group commit), and only then do the boards change and the
callers hear. When a batch cannot be written, everything pending is forgotten: the boards never
saw it, so nothing has to be undone.
"""

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from msgspec.structs import replace

from server.board import Board
from server.budget import Shares
from server.clock import STEP, Clock
from server.config import Config
from server.contract.messages import EndedJob, Job, Presence, Printed
from server.counters import Histogram
from server.errors import TooMany, Unavailable
from server.store.completion import Completion, notify_all
from server.store.embedded.access import Access
from server.store.embedded.batch import Backend, Lost
from server.store.embedded.decisions import Decisions
from server.store.embedded.ledger import Decided, check_owner
from server.store.embedded.memory import Memory
from server.store.embedded.output_buffer import Outputs
from server.store.embedded.records import Records
from server.store.embedded.retention import Retention
from server.store.embedded.room_table import RoomTable
from server.store.embedded.schedule import Schedule
from server.store.embedded.sqlite import Database
from server.store.embedded.turns import Turns
from server.store.embedded.write_health import WriteHealth
from server.store.interface import (
    AmendJob,
    Annotation,
    Change,
    Due,
    Entry,
    Foreign,
    Listener,
    Record,
    Repeated,
    Stale,
    StartJob,
    Store,
    StoreError,
    Submitted,
    ignore,
    queue_full,
)

log = logging.getLogger(__name__)

TOLD_AT_ONCE = 200
"""Entries told before the loop may turn to its other work."""


class EmbeddedStore(Store):
    """One process behind a group commit; `DATABASE` names its file."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.now = self.clock.now
        self.commits = Histogram()
        self._config = config
        most_held = Shares(config).ended
        in_memory = config.database == ":memory:"
        bounds = (config.max_wal, most_held, config.database_timeout)
        self._backend: Backend = Memory() if in_memory else Database(config.database, *bounds)
        self._access = Access(self._backend)
        self._rooms = RoomTable(most_held)
        self._records = Records(self._backend, self._access, self._rooms, config.history)
        self._schedule = Schedule(config.retry_interval, self._rooms.runs)
        self._retention = Retention(self._rooms, config.history)
        self._decisions = Decisions(self._rooms, self._retention, self._schedule, config)
        self._deciders = self._decisions.deciders
        self._outputs = Outputs(config)
        self._health = WriteHealth(
            self._backend, self._access, config.database_check, self._note_health
        )
        # Held by what reads the record before it is decided: a start with a key, by room, connid
        # and key, and what is said of an ended run, by that.
        self._turns = Turns()
        # Waits for the commit that evicts rooms, if one is to.
        self._sweeping: Completion[None] | None = None
        # How far the machine's date is ahead of the clock, and what of that is durable.
        self._drift = self._drift_kept = 0.0
        # When the commit that is under way was begun, by the monotonic clock.
        self._committing: float | None = None
        self._waiting: list[Decided] = []
        # Set when nothing more may be submitted.
        self._closed = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def open(self, listener: Listener, record: Record = ignore) -> None:
        self._listener = listener
        self._record = record
        self._access.open()
        try:
            self.epoch, loaded = await self._access.call(self._backend.open)
            floor = await self._access.call(self._backend.floor)
            drift, last_at = await self._access.call(self._backend.clock)
        except StoreError:
            self._access.close()
            raise
        if self._backend.unwritable:
            self._health.failed(self._backend.unwritable)
        self._rooms.load(loaded, floor)
        self._decisions.begin()
        ledgers = self._rooms.ledgers.values()
        self._begin_clock(drift, max([last_at, *(ledger.last_at for ledger in ledgers)]))
        for room in loaded.values():
            self._schedule.open(room.board.running.values(), self.now())

    def _begin_clock(self, drift: float, last_at: float) -> None:
        """Go on with the time: as far from the machine's date as it was, where jobs are running by
        it, and never before the last event."""
        self._drift_kept = drift
        at = self.clock.wall() - (drift if self._decisions.running else 0.0)
        self.clock.begin(max(at, last_at))
        # Else what was kept would count when jobs run by another time.
        self._drift = 0.0 if abs(self.clock.drift) < STEP else self.clock.drift

    async def ping(self) -> None:
        await self._health.ping()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._commit_all())
            tasks.create_task(self._health.watch())

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

    def _note_health(self, why: str) -> None:
        self.why = why
        self.ready = not why

    async def close(self) -> None:
        self._closed = True
        await self._idle.wait()
        self._access.closed = True
        await self._access.call(self._backend.close)
        self._access.close()

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
            completion.reject(queue_full(self._config))
            return completion
        if self._health.lost:
            completion.reject(Unavailable(f"{self._health.lost}; nothing was changed"))
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
            return await self._submit(at_last, partial(self._decisions.annotate, ended))

    async def _started_with(self, change: StartJob) -> Job | EndedJob | None:
        """The job that was started before with the key of this one."""
        job, owner = change.job, change.owner
        assert isinstance(job.key, str), "only such a start is made once"
        # What has ended is durable by now, where it is not running.
        running = await self.running(job.room, job.connid)
        if running is not None and running.key == job.key and owner in (None, running.by):
            return running
        return await self._records.ended_with(job.room, job.connid, job.key, owner)

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
        boards = [ledger.board for ledger in self._rooms.ledgers.values()]
        return {board.room: len(board.running) for board in boards if board.running}

    async def running(self, room: str, connid: str) -> Job | None:
        ledger = self._rooms.ledgers.get(room)
        if ledger is None:
            return None
        if connid in ledger.pending:
            # Not until nothing is pending: a busy owner's reports would have it wait for ever.
            with suppress(Exception):  # Its refusal is for the one who asked for it.
                await ledger.pending[connid][1]
        return ledger.board.running.get(connid)

    async def ended(self, room: str, connid: str, run: str | None = None) -> EndedJob | None:
        return await self._records.ended(room, connid, run)

    async def board(self, room: str) -> Board:
        if ledger := self._rooms.ledgers.get(room):
            if not ledger.board.whole:
                await self._records.recall(ledger)
            return ledger.board
        return self._rooms.empty_board(room)

    @property
    def held(self) -> Mapping[str, int]:
        return {"ended": self._rooms.held, "output": self._outputs.size}

    async def seq(self, room: str) -> int:
        return self._rooms.board(room).seq

    async def sweep(self) -> None:
        before = self.now() - self._config.room_retention
        rooms = deque(self._rooms.ledgers)
        while rooms and not self._closed:
            if self._retention.evict(rooms, before, self._decisions.batch):
                written = self._sweeping = self._sweeping or Completion()
                self._begin_commit()
                await written
            else:
                await asyncio.sleep(0)

    def announce(self, presence: Presence) -> None:
        if presence.watching:
            self._retention.present.add(presence.room)
        else:
            self._retention.present.discard(presence.room)
        self._listener.present(presence)

    async def print(
        self, room: str, connid: str, run: str, text: str, owner: str | None = None
    ) -> None:
        ledger = self._rooms.ledger(room)
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
        return await self._records.log(room, after)

    async def read_run(self, room: str, connid: str, run: str) -> list[Entry]:
        return await self._records.of_run(room, connid, run)

    async def history(
        self, room: str, connid: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        return await self._records.history(room, connid, None, before, limit)

    def _begin_commit(self) -> None:
        self._idle.clear()
        self._wake.set()

    def _stalls(self) -> bool:
        """Whether the commit that is under way takes so long that nobody is heard meanwhile."""
        began = self._committing
        return began is not None and time.monotonic() - began > self._config.stall_timeout

    async def _commit(self) -> None:
        completions, self._waiting = self._waiting, []
        batch = self._decisions.take_batch()
        sweeping, self._sweeping = self._sweeping, None
        if self._drift != self._drift_kept:
            batch.drift = self._drift
        if batch.log or batch.running or batch.evicted or batch.drift is not None:
            began = self._committing = time.monotonic()
            try:
                await self._access.call(self._backend.write, batch)
            except (sqlite3.Error, Lost) as error:
                log.error("the store cannot be written: %s", error)
                if not isinstance(error, Lost):
                    self._health.failed(error)
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
            self._health.wrote()
        self._retention.show_trimmed(batch)
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
        """Show that rooms were evicted."""
        self.rooms_evicted += len(rooms)
        for room in rooms:
            self._records.forget(room)
        for room in self._rooms.evict(rooms):
            self._listener.emptied(room)

    def _forget(self, completions: list[Decided]) -> None:
        """Answer all that is pending `unavailable`: what was decided on top is void as well."""
        self._waiting = []
        emptied = self._rooms.forget_pending()
        self._decisions.begin()
        for room in emptied:
            self._listener.emptied(room)
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
            if ledger.board.weight != before:
                self._rooms.grew(ledger, before)
        completion.complete(completion.entries, completion.refusal)
