"""The file of the embedded store: SQLite with a write-ahead log, written by one process.

Everything here blocks, and is called from the store's one thread. A batch takes a handful of
statements whatever its size: SQLite lets go of the interpreter in each statement, and with one
for each row a busy event loop would make the writer wait for it once a row.
"""

import logging
import secrets
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import msgspec

from server.board import ENDED_SHOWN, Board
from server.contract.messages import EndedJob, Job, Started
from server.store.embedded import statements as sql
from server.store.embedded.batch import (
    Backend,
    Batch,
    Loaded,
    Lost,
    Unanswered,
    decode_ended,
    entry,
)
from server.store.embedded.segments import decode_segment, segments
from server.store.embedded.sqlite_file import SqliteFile
from server.store.interface import Entry, StoreError

log = logging.getLogger(__name__)

MOST_TOLD = 1000
"""Rows that the log says of that they cannot be read."""
NEWEST = 2**63 - 1
"""Above every seq."""

decode_job = msgspec.json.Decoder(Job).decode


class Database(Backend):
    """One SQLite file, locked against other processes for as long as it is open."""

    blocks = True

    def __init__(
        self,
        path: str,
        wal_limit: int = 2**24,
        most_held: int = 2**25,
        timeout: float = 2.0,
    ) -> None:
        """Nothing is opened yet. `wal_limit` and `timeout` are those of `SqliteFile`; `most_held`
        is in bytes, of the ended jobs that the boards hold in memory when it is opened."""
        self._most_held = most_held
        self._path = path
        self._file = SqliteFile(path, wal_limit, timeout)
        # Noticed here and not only by who has asked, so that no batch is written in between.
        self._lost = ""
        # What was said to be unreadable.
        self._told: set[str] = set()

    @property
    def unwritable(self) -> str:
        return self._file.unwritable

    @property
    def _db(self) -> sqlite3.Connection:
        return self._file.db

    def open(self) -> tuple[str, dict[str, Loaded]]:
        """Open or create the file and read what is running. Raises `StoreError`."""
        try:
            self._file.open()
            return self._load()
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            self.close()
            raise StoreError(f"{self._path} cannot be used as a database: {error}") from error
        except StoreError:
            self.close()
            raise

    def clock(self) -> tuple[float, float]:
        row = self._db.execute(sql.META, ("drift",)).fetchone()
        return float(row[0]) if row else 0.0, self._last_at()

    def floor(self) -> int:
        row = self._db.execute(sql.META, ("floor",)).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        self._file.close()

    def check(self) -> None:
        try:
            self._file.check()
        except Lost as lost:
            self._lost = str(lost)
            raise
        self._lost = ""

    def probe(self, size: int) -> None:
        self._file.reopen()
        self._db.execute(sql.INTO_META, ("probe", bytes(size)))

    def write(self, batch: Batch) -> None:
        if self._lost:
            raise Lost(self._lost)
        self._file.reopen()
        db = self._db
        try:
            db.execute("begin immediate")
            if batch.evicted:
                self._evict(batch.evicted)
            self._insert(sql.INTO_LOG, segments(batch.log))
            ended = [run for run, job in batch.running.items() if job is None]
            starts = self._starts(batch, ended)
            self._insert(
                sql.INTO_RUNNING,
                [
                    (run, starts.get(run, 0), job)
                    for run, job in batch.running.items()
                    if job is not None
                ],
            )
            self._name(sql.END, ended)
            self._insert(
                sql.INTO_ENDED,
                [(*row[:4], starts.get(row[3], 0), *row[4:]) for row in batch.ended],
            )
            for row in batch.stopped:
                db.execute(sql.STOPPED, row)
            for extended in batch.extended:
                db.execute(sql.INTO_EXTENDED, extended)
            for room, end, name, seq, job in batch.annotated:
                db.execute(sql.ANNOTATED[name], (seq, job, room, end))
            for trimmed in batch.trimmed.items():
                db.execute(sql.TRIM_LOG, trimmed)
                db.execute(sql.TRIM_ENDED, trimmed)
                db.execute(sql.TRIM_EXTENDED, trimmed)
            if batch.drift is not None:
                db.execute(sql.INTO_META, ("drift", repr(batch.drift)))
            db.execute("commit")
        except BaseException:
            self._roll_back()
            self._void()
            raise

    def read(self, room: str, after: int) -> list[Entry]:
        rows = self._db.execute(sql.LOG, (room, after))
        return [
            entry(name, body)
            for first, entries in rows
            for _, name, body in decode_segment(entries)[max(0, after + 1 - first) :]
        ]

    def read_run(self, room: str, connid: str, run: str) -> list[Entry]:
        seqs = self._db.execute(sql.SEQS, (run, run, room, connid)).fetchone() or ()
        moves = self._db.execute(sql.EXTENSIONS, (run, room)) if seqs else ()
        found = []
        for seq in sorted(filter(None, chain(seqs, *moves))):
            try:
                found.append(self._find(room, seq, run))
            except Exception as error:
                self._step_over(f"entry {seq} of the log of {room}", error)
        return [each for each in found if each is not None]

    def history(
        self, room: str, connid: str | None, run: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        before = NEWEST if before is None else before
        if run is not None:
            return self._jobs(sql.ENDED, (run, room, connid), sql.ENDED_IDS, (run,), 1)
        asked = (room, before) if connid is None else (room, connid, before)
        whole = sql.HISTORY if connid is None else sql.HISTORY_OF_CONNID
        ids = sql.HISTORY_IDS if connid is None else sql.HISTORY_OF_CONNID_IDS
        return self._jobs(whole, (*asked, limit), ids, (*asked, -1), limit)

    def _jobs(
        self, whole: str, asked: Sequence[Any], ids: str, all_asked: Sequence[Any], limit: int
    ) -> list[EndedJob]:
        """The ended jobs that a statement finds. Where not all of them can be read, those that can
        be, one by one, of all that the other statement finds, up to `limit`."""
        try:
            return [decode_ended(job) for (job,) in self._db.execute(whole, asked)]
        except Exception as error:
            log.debug("looking at ended jobs one by one: %s", error)
        found: list[EndedJob] = []
        for (row,) in self._db.execute(ids, all_asked).fetchall():
            try:
                ((job,),) = self._db.execute(sql.JOB, (row,))
                found.append(decode_ended(job))
            except Exception as error:
                self._step_over(f"row {row} of the ended jobs", error)
            if len(found) == limit:
                break
        return found

    def _step_over(self, what: str, error: Exception) -> None:
        """Say once that something cannot be read, and is left out."""
        if what not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(what)
            log.error("%s: %s cannot be read, and is left out: %s", self._path, what, error)

    def started_with(self, room: str, connid: str, key: str) -> list[EndedJob]:
        rows = self._db.execute(sql.ENDED_WITH_KEY, (room, connid, key))
        try:
            return [decode_ended(job) for (job,) in rows]
        except msgspec.MsgspecError as error:
            # Not stepped over: it may be the one that must not be started again.
            raise sqlite3.DatabaseError(f"{connid} cannot be read: {error}") from error

    def _find(self, room: str, seq: int, run: str) -> Entry | None:
        """The entry of a run at a seq, where it is still kept."""
        row = self._db.execute(sql.SEGMENT, (room, seq)).fetchone()
        if row is None or row[0] > seq:
            return None
        of, name, body = decode_segment(row[1])[seq - row[0]]
        return entry(name, body) if of == run else None

    def _last_at(self) -> float:
        """When the last event was that was written; 0 where there is none that can be read."""
        try:
            for (entries,) in self._db.execute(sql.LATEST):
                _, name, body = decode_segment(entries)[-1]
                return entry(name, body).event.at
        except Exception as error:
            self._step_over("the last entry", error)
        return 0.0

    def _starts(self, batch: Batch, ended: list[str]) -> dict[str, int]:
        """The seqs of the starts that a batch holds, and of those of the runs that it ends."""
        starts = {run: seq for _, seq, run, name, _ in batch.log if name == Started.name}
        for runs in sql.chunks(ended):
            starts.update(self._db.execute(sql.naming(sql.STARTS, len(runs)), runs))
        return starts

    def _evict(self, rooms: Mapping[str, int]) -> None:
        """Delete all rows of rooms, and keep the highest of their new seqs as the floor."""
        self._db.execute(sql.INTO_META, ("floor", str(max(rooms.values()))))
        self._name(sql.DROP_LOGS, list(rooms))
        self._name(sql.DROP_ENDED, list(rooms))
        self._name(sql.DROP_EXTENDED, list(rooms))

    def _load(self) -> tuple[str, dict[str, Loaded]]:
        db = self._db
        if not self.unwritable:
            db.execute(sql.INTO_META_ONCE, ("epoch", secrets.token_hex(8)))
        (epoch,) = db.execute(sql.META, ("epoch",)).fetchone()
        rooms: dict[str, Loaded] = {}
        held = 0
        for room, first, last in self._bounds():
            board = Board(room)
            board.seq = last
            kept = self.history(room, None, None, None, ENDED_SHOWN)
            last_at = max(map(last_heard_at, kept), default=0.0)
            board.recall(reversed(kept))
            held += board.weight
            if held > self._most_held:
                held -= board.weight
                board.leave_ended()
            rooms[room] = Loaded(board, first, last_at)
        for run, encoded in db.execute(sql.RUNNING):
            try:
                job = decode_job(encoded)
                board = rooms[job.room].board
            except Exception as error:
                self._step_over(f"the running job {run}", error)
                continue
            # The same text for all, not a copy for each.
            job.room, job.by = board.room, sys.intern(job.by)
            board.running[job.connid] = job
        for ended in self._jobs(sql.UNANSWERED, (), sql.ALL_ENDED_IDS, (), -1):
            if ended.room in rooms and ended.state == "killed" and ended.stopped_at is None:
                owner = sys.intern(ended.started_by)
                killed = Unanswered(ended.seq, ended.connid, owner)
                rooms[ended.room].unanswered[ended.run] = killed
        return epoch, rooms

    def _bounds(self) -> list[tuple[str, int, int]]:
        """Each room with the first and the last seq of its log; without what cannot be read."""
        try:
            return self._db.execute(sql.ROOMS).fetchall()
        except sqlite3.DatabaseError as error:
            log.debug("looking at logs one by one: %s", error)
        bounds = []
        for room, last in self._db.execute(sql.ROOMS_ALONE).fetchall():
            first = last + 1
            try:
                ((first,),) = self._db.execute(sql.FIRST, (room,))
            except sqlite3.DatabaseError as error:
                self._step_over(f"the beginning of the log of {room}", error)
            bounds.append((room, first, last))
        return bounds

    def _insert(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for chunk in sql.chunks(rows):
            columns = len(chunk[0])
            values = list(chain.from_iterable(chunk))
            # The last one holds bytes. For each of these, but for no bytearray, Python would look
            # for something that adapts it to SQLite, which takes longer than to write it.
            values[columns - 1 :: columns] = map(bytearray, values[columns - 1 :: columns])
            self._db.execute(sql.insertion(statement, columns, len(chunk)), values)

    def _name(self, statement: str, names: Sequence[str]) -> None:
        for chunk in sql.chunks(names):
            self._db.execute(sql.naming(statement, len(chunk)), chunk)

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("rollback")
        except sqlite3.Error:
            log.exception("%s could not be rolled back, opening it anew", self._path)
            self._file.disconnect()
            self._file.connect()

    def _void(self) -> None:
        """Overwrite what a failed commit may have left in the write-ahead log.

        Where only its sync has failed the log holds all of it, and after a crash SQLite would take
        it for committed, although it was answered `unavailable`.
        """
        with suppress(sqlite3.Error):
            self._db.execute(sql.INTO_META, ("voided", secrets.token_hex(8)))


def last_heard_at(job: EndedJob) -> float:
    """When the last event of an ended job was."""
    return max(job.ended_at, job.stopped_at or 0.0, job.amended_at or 0.0)
