"""The file of the embedded store as SQLite has it open: to be written, or where it cannot be, read.

Everything here blocks.
"""

import logging
import os
import secrets
import sqlite3
import struct
from contextlib import suppress
from pathlib import Path

from server.store.embedded import statements as sql
from server.store.embedded.batch import Lost
from server.store.embedded.disk import WAL, Files
from server.store.embedded.schema import FORMAT, SCHEMA, TAKE_OVER
from server.store.embedded.segments import segment
from server.store.interface import StoreError

log = logging.getLogger(__name__)


class SqliteFile:
    """One file and its connection, locked against other processes for as long as it is open."""

    def __init__(self, path: str, wal_limit: int, timeout: float) -> None:
        """Nothing is opened yet. `wal_limit` is in bytes: to these the log is cut back; `timeout`
        in seconds: so long a write waits for another process that has the file locked."""
        self._path = path
        self._wal_limit = wal_limit
        self._timeout = timeout
        self._files = Files(path)
        self._connection: sqlite3.Connection | None = None
        self.unwritable = ""
        """Why it could only be opened to be read; empty where it can be written as well."""

    @property
    def db(self) -> sqlite3.Connection:
        """The connection. Raises `sqlite3.OperationalError` where there is none."""
        if self._connection is None:
            raise sqlite3.OperationalError("the database is not open")
        return self._connection

    def open(self) -> None:
        """Lock the file and connect. Raises `StoreError`, `sqlite3.Error`."""
        self._files.lock()
        self.connect()

    def close(self) -> None:
        """Disconnect and unlock the file; closing twice is as good as once."""
        self.disconnect()
        self._files.unlock()

    def check(self) -> None:
        """Look whether the file is where it was left. Raises `Lost`."""
        try:
            self._files.look()
        except Lost as lost:
            if lost.whole:
                self.gather()
            raise
        except (OSError, struct.error) as error:
            why = f"the database cannot be looked at: {error}"
            raise Lost(why, whole=False) from error

    def connect(self) -> None:
        """Open the file: to be read only where it cannot be written now. Raises `StoreError`."""
        try:
            self._open_to_write()
        except sqlite3.OperationalError as error:
            self.disconnect()
            try:
                self._open_to_read()
            except sqlite3.Error:
                raise error from None
            self.unwritable = str(error)
            log.error("%s can only be read, and nothing is changed: %s", self._path, error)

    def reopen(self) -> None:
        """Open a file to be written that could only be read. Raises `sqlite3.Error`."""
        if not self.unwritable:
            return
        self.disconnect()
        try:
            self._open_to_write()
        except (sqlite3.Error, StoreError) as error:
            self.disconnect()
            self._open_to_read()
            raise sqlite3.OperationalError(str(error)) from error
        self.unwritable = ""
        log.warning("%s can be written again", self._path)

    def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._files.forget()

    def _open_to_write(self) -> None:
        self._connection = sqlite3.connect(
            self._files.path,
            isolation_level=None,
            check_same_thread=False,
            timeout=self._timeout,
        )
        self._connection.create_function("segment", 3, segment, deterministic=True)
        for pragma in (
            "journal_mode = wal",
            "synchronous = full",
            "temp_store = memory",
            f"journal_size_limit = {self._wal_limit}",
        ):
            self.db.execute(f"pragma {pragma}")
        version = self._format()
        if version:
            self._check_name()
        while version in TAKE_OVER:
            version, script = TAKE_OVER[version]
            self._make(script, version)
            # Else the log would stay as large as the file for as long as the server runs.
            self.db.execute("pragma wal_checkpoint(truncate)")
        if version == 0:
            self._make(SCHEMA, FORMAT)
        else:
            self._check_format(version)
        self._mark()

    def _check_name(self) -> None:
        """Raises `StoreError` where the last changes of the file go by another of its names."""
        (used,) = self.db.execute(sql.META, ("path",)).fetchone() or ("",)
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
        self.db.execute(sql.INTO_META, ("path", self._files.path))
        (mark,) = self.db.execute("pragma application_id").fetchone()
        if mark == 0:
            mark = secrets.randbits(31) or 1
            self.db.execute(f"pragma application_id = {mark}")
            busy, *_ = self.db.execute("pragma wal_checkpoint(truncate)").fetchone()
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
        self.db.execute("pragma locking_mode = exclusive")
        self._check_format(self._format())

    def _format(self) -> int:
        (version,) = self.db.execute("pragma user_version").fetchone()
        return int(version)

    def _check_format(self, version: int) -> None:
        if version != FORMAT:
            raise StoreError(
                f"{self._path} was written by another version of Hourglass"
                f" (format {version}, this one reads {FORMAT})"
            )

    def gather(self) -> None:
        """Bring all that is in the write-ahead log into the database, wherever both are: then
        nothing is lost with the log, and it is in no other database's way."""
        with suppress(sqlite3.Error):
            self.db.execute("pragma wal_checkpoint(truncate)")

    def _make(self, script: str, version: int) -> None:
        """Make the file one of that format, or leave it as it was."""
        self.db.executescript(f"begin; {script} pragma user_version = {version}; commit;")
