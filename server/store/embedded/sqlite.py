"""The file of the embedded store: SQLite with a write-ahead log, written by one process.

Everything here blocks, and is called from the store's one thread. A batch takes a handful of
statements whatever its size: SQLite lets go of the interpreter in each statement, and with one
for each row a busy event loop would make the writer wait for it once a row.
"""

import logging
import os
import secrets
import sqlite3
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from server.board import ENDED_SHOWN, Board
from server.contract.messages import EndedJob, Job, Started
from server.store.embedded import statements as sql
from server.store.embedded.batch import (
    Backend,
    Batch,
    Loaded,
    LogRow,
    Lost,
    Unanswered,
    decode_ended,
    entry,
)
from server.store.embedded.disk import WAL, Files
from server.store.embedded.schema import FORMAT, SCHEMA, TAKE_OVER
from server.store.interface import Entry, StoreError

log = logging.getLogger(__name__)

SEGMENT_SIZE = 256
"""Entries of the log that one row holds at most, so that to read one is not to read many."""

MOST_TOLD = 1000
"""Rows that the log says of that they cannot be read."""
NEWEST = 2**63 - 1
"""Above every seq."""

decode_job = msgspec.json.Decoder(Job).decode
encode_segment = msgspec.msgpack.Encoder().encode
decode_segment = msgspec.msgpack.Decoder(list[tuple[str, str, bytes]]).decode


class Database(Backend):
    """One SQLite file, locked against other processes for as long as it is open."""

    blocks = True

    def __init__(self, path: str, wal_limit: int = 2**24, most_held: int = 2**25) -> None:
        """Nothing is opened yet. `wal_limit` is in bytes: to these the log is cut back; so is
        `most_held`, of the ended jobs that the boards hold in memory when it is opened."""
        self._most_held = most_held
        self._path = path
        self._wal_limit = wal_limit
        self._files = Files(path)
        self._connection: sqlite3.Connection | None = None
        # Noticed here and not only by who has asked, so that no batch is written in between.
        self._lost = ""
        # What was said to be unreadable.
        self._told: set[str] = set()

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("the database is not open")
        return self._connection

    def open(self) -> tuple[str, dict[str, Loaded]]:
        """Open or create the file and read what is running. Raises `StoreError`."""
        self._files.lock()
        try:
            self._connect()
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
        """Close the file and unlock it."""
        self._disconnect()
        self._files.unlock()

    def check(self) -> None:
        try:
            self._files.look()
        except Lost as lost:
            self._lost = str(lost)
            if lost.whole:
                self._gather()
            raise
        except (OSError, struct.error) as error:
            self._lost = f"the database cannot be looked at: {error}"
            raise Lost(self._lost, whole=False) from error
        self._lost = ""

    def probe(self, size: int) -> None:
        self._reopen()
        self._db.execute(sql.INTO_META, ("probe", bytes(size)))

    def write(self, batch: Batch) -> None:
        if self._lost:
            raise Lost(self._lost)
        self._reopen()
        db = self._db
        try:
            db.execute("begin immediate")
            if batch.evicted:
                self._evict(batch.evicted)
            self._insert(sql.INTO_LOG, _segments(batch.log))
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
            for room, end, name, seq, job in batch.annotated:
                db.execute(sql.ANNOTATED[name], (seq, job, room, end))
            for trimmed in batch.trimmed.items():
                db.execute(sql.TRIM_LOG, trimmed)
                db.execute(sql.TRIM_ENDED, trimmed)
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
        found = []
        for seq in filter(None, seqs):
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

    def _connect(self) -> None:
        """Open the file: to be read only where it cannot be written now. Raises `StoreError`."""
        try:
            self._open_to_write()
        except sqlite3.OperationalError as error:
            self._disconnect()
            try:
                self._open_to_read()
            except sqlite3.Error:
                raise error from None
            self.unwritable = str(error)
            log.error("%s can only be read, and nothing is changed: %s", self._path, error)

    def _reopen(self) -> None:
        """Open a file to be written that could only be read. Raises `sqlite3.Error`."""
        if not self.unwritable:
            return
        self._disconnect()
        try:
            self._open_to_write()
        except (sqlite3.Error, StoreError) as error:
            self._disconnect()
            self._open_to_read()
            raise sqlite3.OperationalError(str(error)) from error
        self.unwritable = ""
        log.warning("%s can be written again", self._path)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._files.forget()

    def _open_to_write(self) -> None:
        self._connection = sqlite3.connect(
            self._files.path, isolation_level=None, check_same_thread=False, timeout=2
        )
        self._connection.create_function("segment", 3, _segment, deterministic=True)
        for pragma in (
            "journal_mode = wal",
            "synchronous = full",
            "temp_store = memory",
            f"journal_size_limit = {self._wal_limit}",
        ):
            self._db.execute(f"pragma {pragma}")
        version = self._format()
        if version:
            self._check_name()
        while version in TAKE_OVER:
            version, script = TAKE_OVER[version]
            self._make(script, version)
            # Else the log would stay as large as the file for as long as the server runs.
            self._db.execute("pragma wal_checkpoint(truncate)")
        if version == 0:
            self._make(SCHEMA, FORMAT)
        else:
            self._check_format(version)
        self._mark()

    def _check_name(self) -> None:
        """Raises `StoreError` where the last changes of the file go by another of its names."""
        (used,) = self._db.execute(sql.META, ("path",)).fetchone() or ("",)
        path = self._files.path
        log_of_used = Path(f"{used}{WAL}")
        if used in ("", path) or not os.path.exists(used) or not os.path.samefile(used, path):
            return
        if log_of_used.exists() and log_of_used.stat().st_size > 0:
            raise StoreError(
                f"{path} is the same file as {used}, and {log_of_used} holds its last changes:"
                f" start with DATABASE={used}"
            )

    def _mark(self) -> None:
        """Have the header of the file say which file it is, and take the files as they are."""
        # Also where nothing is new: a file that cannot be written is opened all the same.
        self._db.execute(sql.INTO_META, ("path", self._files.path))
        (mark,) = self._db.execute("pragma application_id").fetchone()
        if mark == 0:
            mark = secrets.randbits(31) or 1
            self._db.execute(f"pragma application_id = {mark}")
            busy, *_ = self._db.execute("pragma wal_checkpoint(truncate)").fetchone()
            if busy:  # It is not in the file yet.
                mark = 0
        try:
            self._files.remember(mark)
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from error

    def _open_to_read(self) -> None:
        """Open a file of a disk that takes nothing, not even the index of a write-ahead log: that
        is then in the memory of this process, which alone may have the file."""
        wal = Path(f"{self._files.path}{WAL}")
        logged = wal.exists() and wal.stat().st_size > 0
        how = "vfs=unix-none" if logged else "immutable=1"
        uri = f"{Path(self._files.path).as_uri()}?mode=ro&{how}"
        self._connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False
        )
        self._db.execute("pragma locking_mode = exclusive")
        self._check_format(self._format())

    def _format(self) -> int:
        (version,) = self._db.execute("pragma user_version").fetchone()
        return int(version)

    def _check_format(self, version: int) -> None:
        if version != FORMAT:
            raise StoreError(
                f"{self._path} was written by another version of Hourglass"
                f" (format {version}, this one reads {FORMAT})"
            )

    def _gather(self) -> None:
        """Bring all that is in the write-ahead log into the database, wherever both are: then
        nothing is lost with the log, and it is in no other database's way."""
        with suppress(sqlite3.Error):
            self._db.execute("pragma wal_checkpoint(truncate)")

    def _make(self, script: str, version: int) -> None:
        """Make the file one of that format, or leave it as it was."""
        self._db.executescript(f"begin; {script} pragma user_version = {version}; commit;")

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
            self._disconnect()
            self._connect()

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


def _segments(log: Sequence[LogRow]) -> list[tuple[str, int, int, bytes]]:
    """The rows that hold entries of the log: those of each room together, in their order."""
    rooms: dict[str, list[LogRow]] = {}
    for row in log:
        rooms.setdefault(row[0], []).append(row)
    found = []
    for room, rows in rooms.items():
        for start in range(0, len(rows), SEGMENT_SIZE):
            part = rows[start : start + SEGMENT_SIZE]
            entries = encode_segment([row[2:] for row in part])
            found.append((room, part[0][1], part[-1][1], entries))
    return found


def _segment(run: str, name: str, body: bytes) -> bytes:
    """The segment of one entry, for SQL."""
    return encode_segment([(run, name, body)])
