"""A program's end of its lease keeper: a process, or a thread where there can be none."""

import contextlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from hourglass.native import native

CHUNK = 65_536
MOST_UNSENT = 1_048_576
"""Bytes that a lease keeper may leave unread; one that leaves more is given up."""
LONGEST = 32_768
"""Characters of a message; it is a result that has more."""
START = "import sys; sys.path.insert(0, {!r}); from hourglass.lease_keeper import main; main()"


class Keeper:
    """What a program tells its lease keeper, and hears from it: an object of JSON on each line."""

    def __init__(self, descriptor: int, pid: int | None) -> None:
        self.descriptor = descriptor
        self.dead = False
        self._pid = pid
        self._unsent = b""
        self._unread = b""
        os.set_blocking(descriptor, False)

    @classmethod
    def start(cls) -> "Keeper":
        """Start one. Raises `OSError`."""
        ours, theirs = native("socket", "socketpair")()
        pid = None
        try:
            if (python := interpreter()) is not None:
                with contextlib.suppress(OSError):
                    pid = spawn(python, theirs.fileno())
            if pid is None:
                from hourglass.lease_keeper import run

                native("_thread", "start_new_thread")(run, (theirs.detach(), os.getpid()))
        finally:
            theirs.close()
        return cls(ours.detach(), pid)

    @property
    def events(self) -> int:
        """What to poll for."""
        return select.POLLIN | (select.POLLOUT if self._unsent else 0)

    def send(self, what: str, id: int, **fields: Any) -> None:
        """Have something told; `flush` does it."""
        message = {"do": what, "id": id, **fields}
        try:
            line = json.dumps(message, allow_nan=False)
        except (TypeError, ValueError, RecursionError):  # A result that JSON has no words for.
            line = json.dumps({**message, "result": None})
        if len(line) > LONGEST:
            line = json.dumps({**message, "result": None})
        self._unsent += line.encode() + b"\n"
        if len(self._unsent) > MOST_UNSENT:
            self.dead = True

    def flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                while self._unsent:
                    sent = os.write(self.descriptor, self._unsent)
                    self._unsent = self._unsent[sent:]
            except (BrokenPipeError, ConnectionResetError):
                self.dead = True

    def receive(self) -> list[dict[str, Any]]:
        """What it has said since."""
        try:
            part = os.read(self.descriptor, CHUNK)
            self.dead = self.dead or not part
        except BlockingIOError:
            return []
        except ConnectionResetError:
            self.dead = True
            return []
        *lines, self._unread = (self._unread + part).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Let go of it; it ends by itself."""
        os.close(self.descriptor)
        if self._pid is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, os.WNOHANG)


def interpreter() -> str | None:
    """The Python to start; None where this one is part of another program."""
    for path in (sys.executable, getattr(sys, "_base_executable", None)):
        name = os.path.basename(path or "").lower()
        if path and name.startswith(("python", "pypy")) and not hasattr(sys, "frozen"):
            return path
    return None


def spawn(python: str, descriptor: int) -> int:
    """Start the process; its id. Raises `OSError`."""
    folder = str(Path(__file__).parent.parent)
    process = native("subprocess", "Popen")(
        [python, "-I", "-S", "-c", START.format(folder)],
        stdin=descriptor,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # What a terminal sends is for the program.
    )
    process.returncode = 0  # It is never waited for: it lives as long as we do, and a bit longer.
    return int(process.pid)
