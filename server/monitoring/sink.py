"""Where the process writes to, for threads that must not wait: most of all that of the event loop.

A log that nobody reads fills its pipe, and whoever writes to it then waits for good: for a pager
that was left alone, a terminal after Ctrl-S, a disk that stalls. Here a thread of its own does.
"""

import io
import os
import select
import threading
import time
from collections.abc import Callable

GATHER = 0.005
"""Seconds in which what comes is written in one go: nobody has to be woken for it meanwhile."""
PAUSE = 1.0
"""Seconds until the next try where the last one has failed."""


class Sink(io.TextIOBase):
    """A file descriptor that is written to by a thread, in the order in which it was asked to.

    What does not fit into the buffer, or cannot be written, is dropped and counted. The first that
    can be written again says so.
    """

    encoding = "utf-8"

    def __init__(self, fd: int, most: int) -> None:
        """`most` is how many bytes may wait to be written, beside what is written first: what one
        turn of the loop has to say is never too much by itself."""
        self._fd = fd
        self._most = most
        self.notice: Callable[[int], str] = "{} lines were dropped\n".format
        """What is written in the place of so many lines that were dropped."""
        self.dropped = 0
        """Lines that were dropped in all."""
        # Taken twice by a thread whose garbage collector writes something while it does.
        self._lock = threading.RLock()
        self._waiting: list[bytes] = []
        # Bytes that wait, and those that are being written.
        self._size = 0
        # Whether something was dropped that has not been told of yet, and how many lines.
        self._gap = False
        self._missing = 0
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        # A daemon: nobody waits for it when the process ends.
        threading.Thread(target=self._run, name=f"fd {fd}", daemon=True).start()

    def write(self, text: str) -> int:
        """Have a text written soon, unless there is no room for it."""
        data = text.encode(errors="backslashreplace")
        with self._lock:
            if self._gap or (self._size and self._size + len(data) > self._most):
                self._drop(data)
            else:
                self._waiting.append(data)
                self._size += len(data)
            self._idle.clear()
        if not self._wake.is_set():
            self._wake.set()
        return len(text)

    def drain(self, timeout: float) -> None:
        """Wait until all is written, or has failed, for so many seconds at most."""
        self._idle.wait(timeout)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def _drop(self, data: bytes | memoryview) -> None:
        lines = bytes(data).count(b"\n")
        self._gap = True
        self._missing += lines
        self.dropped += lines

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(GATHER)
            self._wake.clear()
            while texts := self._take():
                data = memoryview(b"".join(texts))
                rest = self._put(data)
                with self._lock:
                    self._size -= len(data)
                    if rest:
                        self._drop(rest)
                if rest:
                    self._idle.set()
                    time.sleep(PAUSE)
                    break

    def _take(self) -> list[bytes]:
        """What is to be written next; a gap is told of after what came before it."""
        with self._lock:
            texts, self._waiting = self._waiting, []
            if not texts and self._gap:
                texts = [self.notice(self._missing).encode()]
                self._size += len(texts[0])
                self._gap, self._missing = False, 0
            if not texts:
                self._idle.set()
            return texts

    def _put(self, data: memoryview) -> memoryview:
        """Write, however long it takes; what could not be written."""
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # Whoever shares it has made it so.
                select.select([], [self._fd], [])
            except OSError:
                break
        return data


def hold_standard_files() -> None:
    """Have the numbers of the standard files taken: else what is opened next would get that of one
    which the process was started without, and be written to as the log."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
