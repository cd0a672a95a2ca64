"""What a command prints: passed on, kept within bounds, read for progress."""

import asyncio
import codecs
import contextlib
import os
import re
import select
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hourglass.formatting import ESCAPE, in_bytes, printable
from hourglass.settings import to_json

CHUNK = 65_536
OUTPUT_HEAD, OUTPUT_TAIL = 2048, 14_336
"""Characters kept of the output that waits to be sent: its first, and its newest."""
MOST_MESSAGE = 49_152
"""Bytes of text in a command; the server takes 64 KiB unless it is told otherwise."""
LONGEST_LINE = 1000
"""Characters of a line in which progress is looked for."""
LAST_LINES, MOST_LAST_LINES = 20, 2500
"""Lines of output that go into a job's result, and their bytes."""
PROGRESS = (
    re.compile(r"^progress:\s*(?P<percent>\d+(?:\.\d+)?)\s*%(?P<note>.*)$", re.I),
    re.compile(r"^progress:\s*(?P<done>\d+)\s*/\s*(?P<total>\d+)(?P<note>(?:\D.*)?)$", re.I),
    re.compile(r"^(?P<note>(?P<done>\d+)\s*/\s*(?P<total>\d+))$"),
    re.compile(r"^\[\s*(?P<done>\d+)/(?P<total>\d+)\](?P<note>.*)$"),
)
"""`progress: 40% tables 12/30`, `progress: 12/30 tables`, `12/30`, and what build tools print:
`[12/30] tables`. A date within a line is none of these."""


@dataclass(frozen=True)
class Progress:
    """How far the command says that it is: from 0 to 1, and in words."""

    done: float | None = None
    note: str | None = None


def read_progress(text: str, patterns: Iterable[re.Pattern[str]]) -> Progress | None:
    """The last progress that the lines of a text tell."""
    for line in reversed(re.split(r"[\r\n]+", text)):
        line = ESCAPE.sub("", line[:LONGEST_LINE]).strip()
        for pattern in patterns:
            found = pattern.search(line)
            progress = from_match(found) if found else None
            if progress is not None:
                return progress
    return None


def from_match(found: re.Match[str]) -> Progress | None:
    """The progress that the named groups `percent`, or `done` and `total`, and `note` tell; without
    names the first group is percent, or the first two are done and total."""
    named = found.groupdict()
    if not found.re.groupindex:
        names = ("percent",) if found.re.groups == 1 else ("done", "total")
        named = dict(zip(names, found.groups(), strict=False))
    note = printable(named.get("note") or "").strip()[:200] or None
    try:
        if named.get("percent"):
            done = float(named["percent"]) / 100
        else:
            done = float(named["done"]) / float(named["total"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return Progress(round(done, 4), note) if 0 <= done <= 1 else None


class Backlog:
    """Text that waits to be taken; of what is too much the middle is dropped, and said so."""

    def __init__(self, head: int, tail: int) -> None:
        """How many characters are kept of its beginning, and of its end."""
        self._most = head, tail
        self._head = self._tail = ""
        self._dropped = 0

    def add(self, text: str) -> None:
        head, tail = self._most
        self._tail += text
        if not self._dropped and len(self._head) < head:
            room = head - len(self._head)
            self._head += self._tail[:room]
            self._tail = self._tail[room:]
        if len(self._tail) > tail:
            self._dropped += len(self._tail) - tail
            self._tail = self._tail[-tail:]

    def take(self) -> str:
        gap = f"\n… {in_bytes(self._dropped)} not shown …\n" if self._dropped else ""
        text = self._head + gap + self._tail
        self._head = self._tail = ""
        self._dropped = 0
        return text


class Output:
    """What the command prints, within bounds, however much it is. Fed by any thread."""

    def __init__(self, patterns: Sequence[re.Pattern[str]]) -> None:
        self._patterns = patterns
        self._lock = threading.Lock()
        self._unsent = Backlog(OUTPUT_HEAD, OUTPUT_TAIL)
        self._unread = ""
        self._last = ""

    def feed(self, text: str) -> None:
        with self._lock:
            self._unsent.add(text)
            self._unread = (self._unread + text)[-CHUNK:]
            self._last = (self._last + text)[-2 * MOST_LAST_LINES :]

    def take(self) -> str:
        """What was printed since the last call, or as much of it as one message may hold."""
        with self._lock:
            text = self._unsent.take()
        return fit(text, MOST_MESSAGE)

    def progress(self) -> Progress | None:
        """The last progress in the whole lines that were printed since the last call."""
        with self._lock:
            end = max(self._unread.rfind("\n"), self._unread.rfind("\r")) + 1
            lines, self._unread = self._unread[:end], self._unread[end:]
        return read_progress(lines, self._patterns)

    def last_lines(self) -> str:
        """The last lines, as a terminal would show them."""
        with self._lock:
            text = self._last.replace("\r\n", "\n").rstrip()
        lines = [printable(line.rpartition("\r")[2], keep="\t") for line in text.split("\n")]
        return fit("\n".join(lines[-LAST_LINES:]), MOST_LAST_LINES)


class Pump(threading.Thread):
    """Passes bytes on from a pipe as they come, and feeds them as text to whoever watches.

    In a thread, because whoever reads our output may not do so for as long as it likes, and a kill
    has to work meanwhile.
    """

    def __init__(self, source: int, target: int, feed: Callable[[str], None], stop: int) -> None:
        """`stop` becomes readable when nothing more is to be waited for."""
        super().__init__(daemon=True)
        self._source = source
        self._target = target
        self._feed = feed
        self._stop = stop
        self._left: int | None = None
        self._loop = asyncio.get_running_loop()
        self.done = asyncio.Event()

    def run(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            while data := self._read():
                self._feed(decoder.decode(data))
                self._write(data)
            self._feed(decoder.decode(b"", final=True))
        except OSError:
            pass  # Nobody reads our output any more. Closing the pipe tells the command so.
        os.close(self._source)
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(self.done.set)

    def _read(self) -> bytes:
        """The next bytes; none at the end of the pipe, or when no more are to be waited for."""
        if self._left is None:
            ready, _, _ = select.select([self._source, self._stop], [], [])
            if self._stop in ready:
                self._left = 16 * CHUNK  # As much as a pipe may hold.
        if self._left is not None:
            ready, _, _ = select.select([self._source], [], [], 0)
            if not ready or self._left <= 0:
                return b""
        data = os.read(self._source, CHUNK)
        if self._left is not None:
            self._left -= len(data)
        return data

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._target, view) :]
            except BlockingIOError:  # Somebody else made it so, and shares it with us.
                select.select([], [self._target], [])


def fit(text: str, most: int) -> str:
    """The end of a text that takes at most so many bytes as JSON."""
    while (size := len(to_json(text).encode())) > most:
        text = text[len(text) - len(text) * most // size + 1 :]
    return text
