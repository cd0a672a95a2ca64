"""What a command prints: passed on, kept within bounds, read for progress."""

import asyncio
import codecs
import contextlib
import errno
import os
import re
import select
import subprocess
import threading
from collections.abc import Callable

from hourglass.formatting import in_bytes, printable
from hourglass.progress.reader import Progress
from hourglass.progress.reading import Matching, Reading
from hourglass.progress.screen import Screen
from hourglass.settings import to_json

CHUNK = 65_536
OUTPUT_HEAD, OUTPUT_TAIL = 2048, 14_336
"""Characters kept of the output that waits to be sent: its first, and its newest."""
MOST_MESSAGE = 49_152
"""Bytes of text in a command; the server takes 64 KiB unless it is told otherwise."""
MOST_UNREAD = 16_384
"""Characters in which progress is looked for at once: the newest."""
LAST_LINES, MOST_LAST_LINES = 20, 2500
"""Lines of output that go into a job's result, and their bytes."""


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


class Channel:
    """One of the ways in which a command prints, with a cursor of its own."""

    def __init__(self) -> None:
        self.screen = Screen()
        self._unread = ""
        self._cut = False

    def add(self, text: str) -> None:
        unread = self._unread + text
        self._cut |= len(unread) > MOST_UNREAD
        self._unread = unread[-MOST_UNREAD:]

    def take(self) -> str:
        """What was printed since the last call; of what is too much, the last whole lines."""
        text, self._unread = self._unread, ""
        if self._cut:
            self._cut = False
            self.screen = Screen()
            text = re.split(r"[\r\n]", text, maxsplit=1)[-1]
        return text


class Output:
    """What the command prints, within bounds, however much it is. Fed by any thread."""

    def __init__(self, reading: Reading | Matching) -> None:
        self._reading = reading
        self._lock = threading.Lock()
        self._unsent = Backlog(OUTPUT_HEAD, OUTPUT_TAIL)
        self._channels: list[Channel] = []
        self._last = ""

    def channel(self) -> Callable[[str], None]:
        """What one descriptor of the command is fed to."""
        channel = Channel()
        self._channels.append(channel)

        def feed(text: str) -> None:
            with self._lock:
                self._unsent.add(text)
                channel.add(text)
                self._last = (self._last + text)[-2 * MOST_LAST_LINES :]

        return feed

    def add(self, text: str) -> None:
        """Show what is of our own, and none of the command's."""
        with self._lock:
            self._unsent.add(text)

    def take(self) -> str:
        """What was printed since the last call, or as much of it as one message may hold."""
        with self._lock:
            text = self._unsent.take()
        return fit(text, MOST_MESSAGE)

    def progress(self, *, final: bool = False) -> Progress | None:
        """How far the command is.

        A line that has not ended counts when it has stood since the last call, or nothing more is
        to come: what it says now may be half of it.
        """
        standing = []
        for channel in self._channels:
            with self._lock:
                text = channel.take()
            for line in channel.screen.feed(text):
                self._reading.read(line)
            if channel.screen.line and (final or not text):
                standing.append(channel.screen.line)
        reading = self._reading
        for line in standing:
            reading = reading.after(line)
        return reading.progress

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
        """`stop` becomes readable when nothing more is to be waited for; what is still open then is
        left to `hand_over`."""
        super().__init__(daemon=True)
        self._source = source
        self._target = target
        self._feed = feed
        self._stop = stop
        self._left: int | None = None
        self._open = False
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
        if not self._open:
            os.close(self._source)
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(self.done.set)

    def hand_over(self) -> None:
        """Have a process of its own pass on what is printed after the end of the command."""
        if self._open:
            with contextlib.suppress(OSError):
                subprocess.Popen(
                    ["cat"],
                    stdin=self._source,
                    stdout=self._target,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            os.close(self._source)
            self._open = False

    def _read(self) -> bytes:
        """The next bytes; none at the end of the pipe, or when no more are to be waited for."""
        if self._left is None:
            ready, _, _ = select.select([self._source, self._stop], [], [])
            if self._stop in ready:
                self._left = 16 * CHUNK  # As much as a pipe may hold.
        if self._left is not None:
            ready, _, _ = select.select([self._source], [], [], 0)
            if not ready or self._left <= 0:
                self._open = True
                return b""
        try:
            data = os.read(self._source, CHUNK)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # So a pseudo-terminal tells its end.
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
