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
from asyncio import Future
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import TypeVar
from weakref import WeakValueDictionary

from msgspec import Struct

from server.board import Board, end
from server.config import Config
from server.counts import Histogram
from server.errors import TooMany, Unavailable
from server.protocol import (
    EndedJob,
    Job,
    Killed,
    LogEvent,
    Presence,
    Printed,
    Progress,
    Reported,
    Started,
    Stopped,
    encode,
)
from server.store import (
    Change,
    Due,
    EndJob,
    Entry,
    Listener,
    ReportProgress,
    Stale,
    StartJob,
    StopJob,
    Store,
    ending,
    too_many,
)
from server.store.outputs import Outputs
from server.store.schedule import Schedule
from server.store.sqlite import Batch, Database

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Room and connid."""
Result = TypeVar("Result")

TOLD_AT_ONCE = 200
"""Entries told before the loop may turn to its other work."""
TRIM_SLACK = 100
"""Entries by which a log may outgrow its bound before it is cut back, to cut seldom."""


class Ticket(Struct, eq=False):
    """A change that has been decided and waits for its commit."""

    key: Key
    future: Future[list[Entry]]
    entries: list[Entry]
    progress: Progress | None = None
    refusal: Exception | None = None
    """Why it was refused: told with the batch, as it may rest on a change before it."""


class EmbeddedStore(Store):
    """SQLite behind a group commit; `DATABASE` names its file."""

    def __init__(self, config: Config, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self.commits = Histogram()
        self._config = config
        self._database = Database(config.database)
        # The only thread that touches the database.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        # What is durable.
        self._boards: dict[str, Board] = {}
        self._oldest: dict[str, int] = {}
        self._schedule = Schedule(config.retry_interval)
        # The boards of rooms without a log, for as long as somebody looks at them: rooms are free
        # to name, so an empty one must cost nothing.
        self._empty: WeakValueDictionary[str, Board] = WeakValueDictionary()
        self._unanswered: dict[str, dict[str, int]] = {}
        # What is decided: durable, or pending until its batch is.
        self._counts: dict[str, int] = {}
        self._total = 0
        self._pending: dict[Key, tuple[Job | None, Ticket]] = {}
        self._pending_seq: dict[str, int] = {}
        self._pending_stops: set[str] = set()
        self._outputs = Outputs(config)
        self._waiting: list[Ticket] = []
        self._batch = Batch()
        # Set when nothing more may be submitted, and when nothing may be read either.
        self._closed = False
        self._stopped = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def open(self, listener: Listener) -> None:
        self._listener = listener
        loaded = await self._in_thread(self._database.open)
        self.epoch = loaded.epoch
        self._boards, self._oldest = loaded.boards, loaded.oldest
        self._unanswered = loaded.unanswered
        self._recount()
        for board in self._boards.values():
            self._schedule.open(board.running.values(), self.now())

    async def ping(self) -> None:
        await self._ask(self._database.ping)

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._commit()
            if not self._waiting:
                self._idle.set()

    async def close(self) -> None:
        self._closed = True
        await self._idle.wait()
        self._stopped = True
        await self._in_thread(self._database.close)
        self._thread.shutdown()

    def submit(self, change: Change) -> Future[list[Entry]]:
        ticket = Ticket(_key(change), asyncio.get_running_loop().create_future(), [])
        if self._closed:
            _refuse(ticket.future, Unavailable("the server is stopping"))
        elif len(self._waiting) >= self._config.max_pending:
            _refuse(ticket.future, Unavailable("too many commands are waiting to be written"))
        else:
            try:
                self._decide(change, ticket)
            except (Stale, TooMany) as refusal:
                ticket.refusal = refusal
            self._waiting.append(ticket)
            self._idle.clear()
            self._wake.set()
        return ticket.future

    async def take_due(self, limit: int) -> list[Due]:
        return self._schedule.take(self.now(), limit)

    async def until_due(self, most: float) -> None:
        await self._schedule.wait(self.now(), most)

    @property
    def scheduled(self) -> int:
        """Due times that are held in memory, those included that are obsolete."""
        return len(self._schedule)

    async def counts(self) -> Mapping[str, int]:
        boards = self._boards.values()
        return {board.room: len(board.running) for board in boards if board.running}

    async def running(self, room: str, connid: str) -> Job | None:
        if pending := self._pending.get((room, connid)):
            # Not until nothing is pending: a busy owner's reports would have it wait for ever.
            await asyncio.wait([pending[1].future])
        board = self._boards.get(room)
        return board.running.get(connid) if board else None

    async def ended(self, room: str, connid: str, run: str | None = None) -> EndedJob | None:
        board = self._boards.get(room)
        if board is None:
            return None
        if found := board.find_ended(connid, run):
            return found
        jobs = await self._ask(self._database.history, room, connid, run, None, 1)
        return jobs[0] if jobs else None

    async def board(self, room: str) -> Board:
        board = self._boards.get(room) or self._empty.get(room)
        if board is None:
            board = self._empty[room] = Board(room)
        return board

    async def seq(self, room: str) -> int:
        return (await self.board(room)).seq

    def announce(self, presence: Presence) -> None:
        self._listener.present(presence)

    async def print(self, room: str, connid: str, run: str, text: str) -> None:
        board = self._boards.get(room)
        job = board.running.get(connid) if board else None
        known = run in self._outputs or bool(board and board.find_ended(connid, run))
        if not known and (job is None or job.run != run):
            raise Stale(job)
        offset = self._outputs.add(run, text, self.now())
        self._listener.printed(room, connid, run, offset)

    async def printed(self, room: str, run: str, after: int = 0) -> Printed:
        self._outputs.forget(self.now())
        return self._outputs.read(run, after)

    async def read(self, room: str, after: int) -> list[Entry] | None:
        if after < self._first_kept(room) - 1:
            return None
        return await self._ask(self._database.read, room, after)

    async def read_run(self, room: str, connid: str, run: str) -> list[Entry]:
        return await self._ask(self._database.read_run, room, run)

    async def history(
        self, room: str, connid: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        return await self._ask(self._database.history, room, connid, None, before, limit)

    def _decide(self, change: Change, ticket: Ticket) -> None:
        """Check a change against what is durable and pending; put it into the batch."""
        if isinstance(change, StartJob):
            self._start(change, ticket)
        elif isinstance(change, EndJob):
            self._end(change, ticket)
        elif isinstance(change, StopJob):
            self._stop(change, ticket)
        else:
            self._report(change.progress, ticket)

    def _start(self, change: StartJob, ticket: Ticket) -> None:
        job, kill = change.job, change.replaces
        current = self._current(ticket.key)
        if current is None:
            self._check_caps(job.room)
        elif kill is None:
            raise Stale(current)
        else:
            self._end(EndJob(job.room, job.connid, job.started_at, kill), ticket)
        event = Started(job.room, self._next_seq(job.room), job.started_at, job)
        self._add(ticket, event)
        self._count(job.room, 1)
        self._pending[ticket.key] = (job, ticket)
        self._batch.running[ticket.key] = encode(job)

    def _end(self, change: EndJob, ticket: Ticket) -> None:
        job = self._expect(ticket.key, change.how.run)
        event = ending(job, self._next_seq(job.room), change.at, change.how)
        ended = end(job, event)
        self._add(ticket, event, ended)
        self._count(job.room, -1)
        self._pending[ticket.key] = (None, ticket)
        self._batch.running[ticket.key] = None
        unanswered = int(isinstance(event, Killed))
        row = (job.room, event.seq, job.connid, job.run, unanswered, encode(ended))
        self._batch.ended.append(row)

    def _stop(self, change: StopJob, ticket: Ticket) -> None:
        unanswered = change.run in self._unanswered.get(change.room, ())
        if not unanswered or change.run in self._pending_stops:
            raise Stale(self._current(ticket.key))
        seq = self._next_seq(change.room)
        self._add(
            ticket,
            Stopped(change.room, seq, change.at, change.connid, change.run, change.exit),
        )
        self._pending_stops.add(change.run)
        self._batch.stopped.append((change.exit, repr(change.at), *ticket.key, change.run))

    def _report(self, progress: Progress, ticket: Ticket) -> None:
        job = copy(self._expect(ticket.key, progress.run))
        # Before the report is durable: the timeout must not come in between.
        self._schedule.renew(progress.run, progress.at)
        job.progress = Reported(progress.done, progress.note)
        self._pending[ticket.key] = (job, ticket)
        self._batch.running[ticket.key] = encode(job)
        ticket.progress = progress

    def _current(self, key: Key) -> Job | None:
        if key in self._pending:
            return self._pending[key][0]
        board = self._boards.get(key[0])
        return board.running.get(key[1]) if board else None

    def _expect(self, key: Key, run: str | None) -> Job:
        current = self._current(key)
        if current is None or run not in (None, current.run):
            raise Stale(current)
        return current

    def _check_caps(self, room: str) -> None:
        config = self._config
        if config.max_running and self._total >= config.max_running:
            raise too_many(config, "running")
        if config.max_running_room and self._counts.get(room, 0) >= config.max_running_room:
            raise too_many(config, "room")
        if config.max_rooms and room not in self._counts and len(self._counts) >= config.max_rooms:
            raise too_many(config, "rooms")

    def _count(self, room: str, change: int) -> None:
        self._counts[room] = self._counts.get(room, 0) + change
        self._total += change

    def _recount(self) -> None:
        self._counts = {room: len(board.running) for room, board in self._boards.items()}
        self._total = sum(self._counts.values())

    def _next_seq(self, room: str) -> int:
        board = self._boards.get(room)
        seq = self._pending_seq.get(room, board.seq if board else 0) + 1
        self._pending_seq[room] = seq
        return seq

    def _add(self, ticket: Ticket, event: LogEvent, ended: EndedJob | None = None) -> None:
        body = encode(event)
        ticket.entries.append(Entry(event, body, ended))
        row = (event.room, event.seq, event.connid, event.run, event.name, body)
        self._batch.log.append(row)

    async def _commit(self) -> None:
        tickets, self._waiting = self._waiting, []
        batch, self._batch = self._batch, Batch()
        batch.trimmed = dict(self._overgrown())
        if batch.log or batch.running:
            began = time.monotonic()
            try:
                await self._in_thread(self._database.write, batch)
            except sqlite3.Error as error:
                log.error("the store cannot be written: %s", error)
                self._forget([*tickets, *self._waiting])
                return
            self.commits.observe(time.monotonic() - began)
        self._trim(batch.trimmed)
        for count, ticket in enumerate(tickets, 1):
            self._tell(ticket)
            if count % TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _forget(self, tickets: list[Ticket]) -> None:
        """Answer all that is pending `unavailable`: what was decided on top is void as well."""
        self._waiting = []
        self._batch = Batch()
        self._pending.clear()
        self._pending_seq.clear()
        self._pending_stops.clear()
        self._recount()
        for ticket in tickets:
            if not ticket.future.done():
                error = Unavailable("the store cannot be written; nothing was changed")
                _refuse(ticket.future, error)

    def _tell(self, ticket: Ticket) -> None:
        """Let a durable change be seen: first the board, then who listens, then who asked."""
        for entry in ticket.entries:
            self._settle(entry.event)
            self._schedule.follow(entry.event)
            self._listener.follow(entry)
        if ticket.progress is not None:
            self._boards[ticket.progress.room].report(ticket.progress)
            self._listener.report(ticket.progress)
        if self._pending.get(ticket.key, (None, None))[1] is ticket:
            del self._pending[ticket.key]
        if ticket.future.done():
            return  # Whoever asked was cancelled meanwhile; the change stands.
        if ticket.refusal is not None:
            _refuse(ticket.future, ticket.refusal)
        else:
            ticket.future.set_result(ticket.entries)

    def _settle(self, event: LogEvent) -> None:
        room = event.room
        if room not in self._boards:
            self._boards[room] = self._empty.get(room) or Board(room)
            self._oldest[room] = 1
        self._boards[room].apply(event)
        if isinstance(event, Killed):
            self._unanswered.setdefault(room, {})[event.run] = event.seq
        elif isinstance(event, Stopped):
            self._unanswered[room].pop(event.run, None)
            self._pending_stops.discard(event.run)
        if self._pending_seq.get(room) == event.seq:
            del self._pending_seq[room]

    def _trim(self, trimmed: dict[str, int]) -> None:
        for room, last in trimmed.items():
            self._oldest[room] = last + 1
            runs = self._unanswered.get(room, {})
            for run in [run for run, seq in runs.items() if seq <= last]:
                del runs[run]

    def _overgrown(self) -> Iterator[tuple[str, int]]:
        for room in self._pending_seq:
            board = self._boards.get(room)
            if board and board.seq - self._oldest[room] >= self._config.history + TRIM_SLACK:
                yield room, board.seq - self._config.history

    def _first_kept(self, room: str) -> int:
        board = self._boards.get(room)
        if board is None:
            return 1
        return max(self._oldest[room], board.seq - self._config.history + 1)

    async def _ask(self, read: Callable[..., Result], *args: object) -> Result:
        if self._stopped:
            raise Unavailable("the server is stopping")
        try:
            return await self._in_thread(read, *args)
        except sqlite3.Error as error:
            log.error("the store cannot be read: %s", error)
            raise Unavailable("the store cannot be read") from error

    async def _in_thread(self, work: Callable[..., Result], *args: object) -> Result:
        if self._config.database == ":memory:":
            return work(*args)  # It never waits for a disk.
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def _refuse(future: Future[list[Entry]], error: Exception) -> None:
    future.set_exception(error)
    # Seen: whoever asked may have been cancelled, and asyncio would call that an error.
    future.exception()


def _key(change: Change) -> Key:
    if isinstance(change, StartJob):
        return change.job.room, change.job.connid
    if isinstance(change, ReportProgress):
        return change.progress.room, change.progress.connid
    return change.room, change.connid
