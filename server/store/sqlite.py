"""The file of the embedded store: SQLite with a write-ahead log, written by one process.

Everything here blocks, and is called from the store's one thread. A batch takes a handful of
statements whatever its size: SQLite lets go of the interpreter in each statement, and with one
for each row a busy event loop would make the writer wait for it once a row.
"""

import fcntl
import logging
import os
import secrets
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from typing import Any, TextIO

import msgspec

from server.board import ENDED_SHOWN, Board
from server.protocol import EndedJob, Job
from server.store import Entry, StoreError
from server.store.batch import Backend, Batch, Loaded, Unanswered, decode_ended, entry

log = logging.getLogger(__name__)

FORMAT = 3
"""What `PRAGMA user_version` says of a file that this code writes."""

SCHEMA = """
create table if not exists meta (
  name text primary key, value text not null
) without rowid;
create table if not exists log (
  id integer primary key, room text not null, seq integer not null, run text not null,
  name text not null, body blob not null
);
create table if not exists running (
  run text primary key, job blob not null
) without rowid;
create table if not exists ended (
  id integer primary key, room text not null, seq integer not null, connid text not null,
  run text not null, unanswered integer not null, job blob not null
);
create unique index if not exists log_by_room on log (room, seq);
create index if not exists log_by_run on log (run);
create unique index if not exists ended_by_room on ended (room, seq);
create index if not exists ended_by_connid on ended (room, connid, seq);
create index if not exists ended_unanswered on ended (room, run, seq) where unanswered;
"""
"""Rows are kept in the order in which they came: a commit then writes few pages, however many rooms
it is about. Only the small rows of the indexes go to many places."""

TAKE_OVER = {
    1: """
alter table running rename to was_running;
create table running (run text primary key, job blob not null) without rowid;
insert into running select json_extract(cast(job as text), '$.run'), job from was_running;
drop table was_running;
""",
    2: f"""
drop index if exists log_by_run;
drop index if exists ended_by_connid;
drop index if exists ended_unanswered;
alter table log rename to was_log;
alter table ended rename to was_ended;
{SCHEMA}
insert into log (room, seq, run, name, body)
  select room, seq, run, name, body from was_log order by room, seq;
insert into ended (room, seq, connid, run, unanswered, job)
  select room, seq, connid, run, unanswered, job from was_ended order by room, seq;
drop table was_log;
drop table was_ended;
""",
}
"""What makes the next format of a file of each older one: the first kept running jobs by room and
connid, the second the log by room, and in both each start wrote many pages."""

ROOMS = """
with recursive rooms (room) as (
  select min(room) from log
  union all
  select (select min(room) from log where room > rooms.room) from rooms where room is not null
)
select room,
  (select min(seq) from log where log.room = rooms.room),
  (select max(seq) from log where log.room = rooms.room)
from rooms where room is not null
"""
"""Each room with its first and last seq: by seeks, where a `group by` would read the whole log."""

CHUNKS = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Rows that one statement takes: few sizes, so that SQLite keeps every statement compiled."""

decode_job = msgspec.json.Decoder(Job).decode


class Database(Backend):
    """One SQLite file, locked against other processes for as long as it is open."""

    blocks = True

    def __init__(self, path: str) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._lock: TextIO | None = None
        self._connection: sqlite3.Connection | None = None

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None, "the database is not open"
        return self._connection

    def open(self) -> tuple[str, dict[str, Loaded]]:
        """Open or create the file and read what is running. Raises `StoreError`."""
        self._take_lock()
        try:
            self._connect()
            return self._load()
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            self.close()
            raise StoreError(f"{self._path} cannot be used as a database: {error}") from error
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and unlock it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write(self, batch: Batch) -> None:
        db = self._db
        try:
            db.execute("begin immediate")
            # "or rollback", as nothing of a batch is kept where one row cannot be: to be able to
            # take back a single statement SQLite would keep a copy of each page that it changes.
            self._insert("insert or rollback into log (room, seq, run, name, body)", batch.log)
            running = [(run, job) for run, job in batch.running.items() if job is not None]
            ended = [run for run, job in batch.running.items() if job is None]
            self._insert("insert or replace into running", running)
            for runs in _chunks(ended):
                db.execute(f"delete from running where run in ({','.join('?' * len(runs))})", runs)
            self._insert(
                "insert or rollback into ended (room, seq, connid, run, unanswered, job)",
                batch.ended,
            )
            for row in batch.stopped:
                db.execute(
                    "update ended set unanswered = 0, job = cast(json_set("
                    "cast(job as text), '$.exit', ?, '$.stopped_at', json(?)) as blob)"
                    " where room = ? and connid = ? and run = ?",
                    row,
                )
            for room, seq in batch.trimmed.items():
                db.execute("delete from log where room = ? and seq <= ?", (room, seq))
                db.execute("delete from ended where room = ? and seq <= ?", (room, seq))
            db.execute("commit")
        except BaseException:
            self._roll_back()
            self._void()
            raise

    def ping(self) -> None:
        self._db.execute("select value from meta where name = 'epoch'").fetchone()

    def read(self, room: str, after: int) -> list[Entry]:
        rows = self._db.execute(
            "select name, body from log where room = ? and seq > ? order by seq", (room, after)
        )
        return [entry(name, body) for name, body in rows]

    def read_run(self, room: str, run: str) -> list[Entry]:
        rows = self._db.execute(
            "select name, body from log indexed by log_by_run"
            " where run = ? and room = ? order by seq",
            (run, room),
        )
        return [entry(name, body) for name, body in rows]

    def history(
        self, room: str, connid: str | None, run: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        asked = {
            "room = ?": room,
            "connid = ?": connid,
            "run = ?": run,
            "seq < ?": before,
        }
        given = {clause: value for clause, value in asked.items() if value is not None}
        rows = self._db.execute(
            f"select job from ended where {' and '.join(given)} order by seq desc limit ?",
            [*given.values(), limit],
        )
        return [decode_ended(job) for (job,) in rows]

    def _take_lock(self) -> None:
        path = f"{self._path}.lock"
        try:
            # Not truncated: until the lock is ours the file says who holds it.
            self._lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+")
        except OSError as error:
            raise StoreError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = self._lock.read().strip() or "unknown"
            self._lock.close()
            self._lock = None
            raise StoreError(
                f"{self._path} is in use by another server (process {holder}):"
                " stop that one, or give this one a DATABASE of its own"
            ) from error
        # Only for the message above: a full disk is told, if need be, by the database itself.
        with suppress(OSError):
            os.ftruncate(self._lock.fileno(), 0)
            os.write(self._lock.fileno(), f"{os.getpid()}\n".encode())

    def _connect(self) -> None:
        self._connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=2
        )
        for pragma in ("journal_mode = wal", "synchronous = full", "temp_store = memory"):
            self._db.execute(f"pragma {pragma}")
        (version,) = self._db.execute("pragma user_version").fetchone()
        while version in TAKE_OVER:
            self._make(TAKE_OVER[version], version + 1)
            version += 1
            # Else the log would stay as large as the file for as long as the server runs.
            self._db.execute("pragma wal_checkpoint(truncate)")
        if version not in (0, FORMAT):
            raise StoreError(
                f"{self._path} was written by another version of Hourglass"
                f" (format {version}, this one reads {FORMAT})"
            )
        self._make(SCHEMA, FORMAT)

    def _make(self, script: str, version: int) -> None:
        """Make the file one of that format, or leave it as it was."""
        self._db.executescript(f"begin; {script} pragma user_version = {version}; commit;")

    def _load(self) -> tuple[str, dict[str, Loaded]]:
        db = self._db
        db.execute("insert or ignore into meta values ('epoch', ?)", (secrets.token_hex(8),))
        (epoch,) = db.execute("select value from meta where name = 'epoch'").fetchone()
        rooms: dict[str, Loaded] = {}
        for room, first, last in db.execute(ROOMS).fetchall():
            board = Board(room)
            board.seq = last
            board.ended.extend(reversed(self.history(room, None, None, None, ENDED_SHOWN)))
            rooms[room] = Loaded(board, first)
        for (encoded,) in db.execute("select job from running"):
            job = decode_job(encoded)
            board = rooms[job.room].board
            # The same text for all, not a copy for each.
            job.room, job.by = board.room, sys.intern(job.by)
            board.running[job.connid] = job
        killed = (
            "select room, run, seq, connid, json_extract(cast(job as text), '$.started_by')"
            " from ended where unanswered"
        )
        for room, run, seq, connid, owner in db.execute(killed):
            rooms[room].unanswered[run] = Unanswered(seq, connid, sys.intern(owner))
        return epoch, rooms

    def _insert(self, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for chunk in _chunks(rows):
            columns = len(chunk[0])
            values = list(chain.from_iterable(chunk))
            # The last one holds bytes. For each of these, but for no bytearray, Python would look
            # for something that adapts it to SQLite, which takes longer than to write it.
            values[columns - 1 :: columns] = map(bytearray, values[columns - 1 :: columns])
            self._db.execute(_insertion(into, columns, len(chunk)), values)

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("rollback")
        except sqlite3.Error:
            log.exception("%s could not be rolled back, opening it anew", self._path)
            self._db.close()
            self._connect()

    def _void(self) -> None:
        """Overwrite what a failed commit may have left in the write-ahead log.

        Where only its sync has failed the log holds all of it, and after a crash SQLite would take
        it for committed, although it was answered `unavailable`.
        """
        with suppress(sqlite3.Error):
            self._db.execute(
                "insert or replace into meta values ('voided', ?)", (secrets.token_hex(8),)
            )


@lru_cache
def _insertion(into: str, columns: int, rows: int) -> str:
    row = f"({','.join('?' * columns)})"
    return f"{into} values {','.join([row] * rows)}"


def _chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    position = 0
    while position < len(rows):
        size = next(size for size in CHUNKS if size <= len(rows) - position)
        yield rows[position : position + size]
        position += size
