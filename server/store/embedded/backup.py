"""A copy of the embedded store's file, taken while a server writes to it, or while none runs."""

import os
import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from server.store.interface import StoreError

PATIENCE = 10
"""Seconds to wait for who has locked the file, such as a server that is starting."""


def back_up(database: str, target: str) -> int:
    """Make `target` a copy of the file as it is in one moment; its size in bytes.

    It is there whole or not at all. Raises `StoreError`, also where there is such a file already.
    """
    if not os.path.isfile(database):
        raise StoreError(f"{database} is no file: there is nothing to back up")
    part = f"{target}.{secrets.token_hex(4)}.part"
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError as error:
        raise StoreError(f"{target} cannot be made: {error.strerror}") from error
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL, os.stat(database).st_mode & 0o777))
        _copy(database, part)
        _sync(part)
        os.replace(part, target)
        _sync(os.path.dirname(os.path.abspath(target)))
    except BaseException as error:
        for name in (part, target):
            with suppress(OSError):
                os.unlink(name)
        if isinstance(error, sqlite3.Error | OSError):
            raise StoreError(f"{database} cannot be copied to {target}: {error}") from error
        raise
    return os.path.getsize(target)


def _copy(database: str, target: str) -> None:
    uri = f"{Path(os.path.realpath(database)).as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=PATIENCE)) as source:
        # Of one moment, whatever is written meanwhile. `.backup` begins anew at each commit.
        source.execute("vacuum into ?", (target,))
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        (found,) = copy.execute("pragma quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        # Else the copy would pass for the file, if it were put in its place under a server.
        copy.execute(f"pragma application_id = {secrets.randbits(31) or 1}")


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
