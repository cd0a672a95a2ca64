"""The file of the embedded store as the disk has it: held against other servers, and watched.

SQLite goes on with the files that it has opened, whatever becomes of their names: when they are
deleted or replaced, everything is written and nothing is there after a restart. So their names and
sizes are looked at now and then.
"""

import errno
import fcntl
import logging
import os
import struct
import sys
from contextlib import suppress

from server.store.embedded.batch import Lost
from server.store.interface import StoreError

log = logging.getLogger(__name__)

WAL, SHM = "-wal", "-shm"
FLOCK = "hhqqi4x"
"""`struct flock` of fcntl(2): type, whence, start, length, pid."""
LOCK_OPEN_FILE = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None
"""What locks an open file; None where the system has no such locks, or another `struct flock`.

There the file is locked by its name alone.
"""
LOCKED_BYTE = 2**62
"""The byte of the file that is locked, far from those that SQLite locks (sqlite.org/lockingv3)."""
CANNOT_WRITE = frozenset(
    [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG]
)

HEADER = struct.Struct(">16xH10xI36xI")
"""Of the first page (sqlite.org/fileformat2): size of a page, pages, application id."""
INDEX = struct.Struct("=14xHI12x8s")
"""Of the wal-index (sqlite.org/walformat): size of a page, number of the last frame, salts."""
WAL_HEADER = struct.Struct(">16x8s8x")
FRAME_HEADER = struct.Struct(">8x8s8x")
LARGEST_PAGE = 65_536


class Files:
    """A database and what SQLite keeps beside it, under the names that they have."""

    def __init__(self, path: str) -> None:
        """`path` may lead to the file by symbolic links."""
        self._path = path
        self.path = path
        """Where the file really is, once it is locked."""
        self._locks: list[int] = []
        # Open for as long as SQLite has them open: to close a file drops its locks of the process.
        self._open: dict[str, int] = {}
        self._known: dict[str, os.stat_result] = {}
        self._mark = 0
        self._frame = (b"", 0)

    def lock(self) -> None:
        """Lock the file, by its name and by itself, or create it. Raises `StoreError`."""
        self.path = os.path.realpath(self._path)
        try:
            self._lock_name()
            self._lock_file()
        except BaseException:
            self.unlock()
            raise

    def unlock(self) -> None:
        """Let others have the file, once SQLite has closed it."""
        self.forget()
        for file in self._locks:
            os.close(file)
        self._locks.clear()

    def remember(self, mark: int) -> None:
        """Take the files as they are now, when SQLite has just opened them; `mark` is the
        application id in the header of the database, which no other has; 0 where none is there."""
        for suffix in ("", WAL, SHM):
            self._open[suffix] = os.open(self.path + suffix, os.O_RDWR | os.O_CLOEXEC)
            self._known[suffix] = os.fstat(self._open[suffix])
        self._mark = mark

    def forget(self) -> None:
        """Look at the files no more: SQLite has closed them."""
        for file in self._open.values():
            os.close(file)
        self._open.clear()
        self._known.clear()
        self._frame = (b"", 0)

    def look(self) -> None:
        """Raises `Lost` when the files are not those that were opened, or not whole.

        Nothing may be written meanwhile.
        """
        if not self._open:
            return
        self._restore_index()
        for suffix, known in self._known.items():
            name = _named(suffix)
            try:
                found = os.stat(self.path + suffix if suffix else self._path)
            except FileNotFoundError:
                raise Lost(f"{name} was deleted") from None
            except OSError as error:
                raise Lost(f"{name} cannot be seen: {error.strerror}") from error
            if not os.path.samestat(found, known):
                raise Lost(f"{name} was replaced by another file")
        self._look_into_database()
        self._look_into_wal()

    def _look_into_database(self) -> None:
        file = self._open[""]
        head = os.pread(file, HEADER.size, 0)
        whole = len(head) == HEADER.size
        if whole:
            page, pages, mark = HEADER.unpack(head)
            size = (LARGEST_PAGE if page == 1 else page) * pages
            whole = self._mark in (0, mark) and os.fstat(file).st_size >= size
        if not whole:
            raise Lost("the database was cut short or overwritten", whole=False)

    def _look_into_wal(self) -> None:
        """Whether the write-ahead log holds what the wal-index says; a hole in it ends it."""
        page, frame, salts = INDEX.unpack(os.pread(self._open[SHM], INDEX.size, 0))
        if frame == 0:
            return
        size = FRAME_HEADER.size + (LARGEST_PAGE if page == 1 else page)
        seen_salts, seen = self._frame
        looked = [frame, seen] if salts == seen_salts and 0 < seen < frame else [frame]
        places = [WAL_HEADER.size + (number - 1) * size for number in looked]
        found = [self._salts(WAL_HEADER, 0), *(self._salts(FRAME_HEADER, at) for at in places)]
        if (
            any(each != salts for each in found)
            or os.fstat(self._open[WAL]).st_size < WAL_HEADER.size + frame * size
        ):
            raise Lost("the write-ahead log was cut short or overwritten", whole=False)
        self._frame = (salts, frame)

    def _salts(self, form: struct.Struct, at: int) -> bytes | None:
        read = os.pread(self._open[WAL], form.size, at)
        return form.unpack(read)[0] if len(read) == form.size else None

    def _restore_index(self) -> None:
        """Make the wal-index as long as it was: it is memory to SQLite, which the kernel would end
        the process for reading. SQLite fills it anew from the log when it finds it empty."""
        file, known = self._open[SHM], self._known[SHM]
        if os.fstat(file).st_size < known.st_size:
            os.ftruncate(file, known.st_size)
            log.warning("%s%s was cut short, and is made anew", self.path, SHM)

    def _lock_name(self) -> None:
        """Lock the file beside it that says who has it."""
        path = f"{self.path}.lock"
        try:
            # Not truncated: until the lock is ours the file says who holds it.
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno in CANNOT_WRITE and os.path.exists(self.path):
                return
            raise StoreError(f"{path} cannot be opened: {error.strerror}") from error
        self._locks.append(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
            raise self._in_use(f"process {holder}") from error
        # Only for the message above: a full disk is told, if need be, by the database itself.
        with suppress(OSError):
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())

    def _lock_file(self) -> None:
        """Lock the file itself, as it may have more names than one: for all but those who only
        read it, where it can only be read."""
        kind = fcntl.F_WRLCK
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno not in CANNOT_WRITE or not os.path.exists(self.path):
                raise StoreError(f"{self.path} cannot be opened: {error.strerror}") from error
            kind = fcntl.F_RDLCK
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._locks.append(file)
        if LOCK_OPEN_FILE is None:
            return
        wanted = struct.pack(FLOCK, kind, os.SEEK_SET, LOCKED_BYTE, 1, 0)
        try:
            # Of this open file, not of the process: SQLite's own locks are in nobody's way.
            fcntl.fcntl(file, LOCK_OPEN_FILE, wanted)
        except BlockingIOError as error:
            raise self._in_use("it has it by another name") from error

    def _in_use(self, how: str) -> StoreError:
        return StoreError(
            f"{self._path} is in use by another server ({how}):"
            " stop that one, or give this one a DATABASE of its own"
        )


def _named(suffix: str) -> str:
    return {"": "the database", WAL: "the write-ahead log", SHM: "the wal-index"}[suffix]
