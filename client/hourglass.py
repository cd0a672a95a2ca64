#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["rich>=13"]
# ///
"""Hourglass on the command line: run a command as a job that everyone sees and anyone can kill.

    hourglass.py run --time 600 -- ./backup.sh     a kill in the browser ends the whole process tree
    hourglass.py start NAME --time 600             a job without a command
    hourglass.py kill NAME                         ends a running job
    hourglass.py status [NAME]                     what is running
    hourglass.py history [NAME]                    what has ended
    hourglass.py watch [NAME]                      the live board, or the output of one job

One file that needs Python 3.11 and nothing else; only the board of `watch` needs rich, which
`uv run hourglass.py` brings along. The parts, from the bottom up:

    Settings       server, token, room and name, from flags, the environment and a file
    WebSocket      RFC 6455, as much of it as a client needs
    Line           commands and their answers, and events, over one WebSocket
    Output         what a command prints: passed on, kept within bounds, read for progress
    Tree, Command  a process with everything that it starts, and how all of it is ended
    Owner          keeps a job on the server while its command runs, over many connections
    run            joins a command and a job, in a process that another one guards
    one-shots      start, kill, status, history
    Board          the state of a room, as its events tell it; watch shows it

Time is only ever measured with a clock that cannot be set, or taken from the server: a machine
whose date is wrong changes nothing. The manual is docs/cli.md.
"""

import argparse
import asyncio
import base64
import codecs
import contextlib
import functools
import getpass
import hashlib
import io
import itertools
import json
import os
import queue
import random
import re
import secrets
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from asyncio import Future, StreamReader, StreamWriter
from collections import defaultdict
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit("hourglass.py needs Python 3.11 or newer; `uv run hourglass.py` brings one along")

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

if os.name != "posix":
    sys.exit("hourglass.py needs Linux or macOS")

Json = dict[str, Any]
Result = TypeVar("Result")

CONNECT_WITHIN = 5.0
"""Seconds for each address of the server."""
ANSWER_WITHIN = 10.0
SILENCE = 15.0
"""Seconds without a frame after which the server is pinged, and after as many more given up."""
BACKOFF = 0.5, 15.0
"""The least and the most seconds between two attempts to connect, each randomly shortened."""
TICK = 0.2
"""Seconds between two looks at what there is to tell the server."""
PROGRESS_EVERY = 0.5
"""Seconds between two reports of a progress that changes."""
ASK_AGAIN = 10.0
"""Seconds before a job whose name was taken is requested again."""
CHUNK = 65_536
OUTPUT_HEAD, OUTPUT_TAIL = 2048, 14_336
"""Characters kept of the output that waits to be sent: its first, and its newest."""
MOST_MESSAGE = 49_152
"""Bytes of text in a command; the server takes 64 KiB unless it is told otherwise."""
LONGEST_LINE = 1000
"""Characters of a line in which progress is looked for."""
LAST_LINES, MOST_LAST_LINES = 20, 2500
"""Lines of output that go into a job's result, and their bytes."""
STOP_WITHIN = 15.0
"""Seconds that a killed job which is watched may take to stop."""
REDRAW_EVERY = 0.2
LAST_TRY = 1.0
"""Seconds to reach an absent server at the end, for a job that it knows nothing of."""
DRAIN = 2.0
"""Seconds for output that nobody takes before the end of the command is reported."""


# ---------------------------------------------------------------------------------- exit codes


class Exit:
    """The exit codes, but for those of a command that ran."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3  # conflict, not_running, too_many, invalid
    NOT_LET_IN = 4  # unauthorized, forbidden
    AWAY = 5  # no connection, no answer, unavailable, rate_limited
    # Of `run` alone. Above what commands use, and as in timeout(1) and the shell.
    CONFLICT = 122
    KILLED = 123
    TIMED_OUT = 124
    NOT_RUN = 125
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127


EXITS = {"unauthorized": Exit.NOT_LET_IN, "forbidden": Exit.NOT_LET_IN}
EXITS |= {"unavailable": Exit.AWAY, "rate_limited": Exit.AWAY, "internal": Exit.FAILED}


class Away(Exception):
    """The server cannot be reached, or has gone silent; the message says which."""

    exit = Exit.AWAY


class Refused(Exception):
    """The server said no; `code`, `field` and `job` as in its answer."""

    def __init__(self, answer: Json) -> None:
        error = answer.get("error") or {}
        self.answer = answer
        self.code: str = error.get("code", "refused")
        self.field: str | None = error.get("field")
        self.job: Json | None = answer.get("job")
        super().__init__(error.get("message", "the server refused, and did not say why"))

    @classmethod
    def here(cls, code: str, message: str, job: Json | None = None) -> "Refused":
        """What the server would say, if it were asked."""
        return cls({"error": {"code": code, "message": message}, "job": job})

    @property
    def exit(self) -> int:
        return EXITS.get(self.code, Exit.REFUSED)

    @property
    def unknown(self) -> bool:
        """Whether even the server cannot tell that nothing was done."""
        return bool((self.answer.get("error") or {}).get("unknown"))

    @property
    def passing(self) -> bool:
        """Whether it is worth trying again."""
        return self.code in ("unavailable", "rate_limited", "internal")


# ------------------------------------------------------------------------------------ settings


class SettingsError(Exception):
    """A setting cannot be used; the message names it."""


@dataclass(frozen=True)
class Settings:
    """Where the server is, and who asks."""

    url: SplitResult
    room: str
    by: str
    read_token: Callable[[], str | None]
    """Asked at each connect: a run may outlast its token, and the file hold a newer one."""

    @classmethod
    def load(cls, flags: Mapping[str, str | None], environ: Mapping[str, str]) -> "Settings":
        """From flags, else `HOURGLASS_…`, else the file. Raises `SettingsError`."""

        def setting(name: str) -> str | None:
            told = flags.get(name) or environ.get(f"HOURGLASS_{name.upper()}")
            return told or read_file(environ).get(name)

        url = urlsplit(setting("url") or "http://127.0.0.1:8000")
        try:
            usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise SettingsError(f"url must be like https://hourglass.example, not {url.geturl()}")
        room, by = setting("room") or "main", setting("by") or whoami()
        return cls(url, room, by, lambda: setting("token"))


def read_file(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of `hourglass.toml` in the user's folder of configuration, if it is there."""
    folder = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "~", ".config")
    path = Path(folder, "hourglass.toml").expanduser()
    try:
        found = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    for name, value in found.items():
        if name not in ("url", "token", "room", "by") or not isinstance(value, str):
            raise SettingsError(f"{path}: {name} must be url, token, room or by, and a text")
    return found


def whoami() -> str:
    """`user@host`, as far as the machine knows them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # No name for the user's number, as in many containers.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:64]


def to_json(value: Any) -> str:
    """A value as JSON on one line, in the letters that it has."""
    return json.dumps(value, ensure_ascii=False)


def clock() -> float:
    """Seconds that nobody can set, and that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


# ----------------------------------------------------------------------------------- WebSocket


class WebSocket:
    """The client's end of a WebSocket (RFC 6455), for text without compression."""

    GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    TEXT, CLOSE, PING, PONG = 1, 8, 9, 10

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, url: SplitResult, headers: Mapping[str, str]) -> "WebSocket":
        """Connect to `url`, whose scheme is http or https. Raises `Away` and `Refused`."""
        reader, writer = await dial(url)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await shake_hands(reader, writer, url, headers)
        except BaseException as error:
            writer.transport.abort()
            if isinstance(error, (OSError, EOFError, asyncio.LimitOverrunError)):
                raise Away(f"{url.netloc} does not answer as a server should") from None
            raise
        return cls(reader, writer)

    async def send(self, text: str) -> None:
        """Send a message; waits while the network does not take it."""
        self._write(self.TEXT, text.encode(errors="replace"))
        try:
            await self._writer.drain()
        except OSError as error:
            raise Away(reason(error)) from None

    async def receive(self) -> str:
        """The next message. A server that stays silent is pinged, then given up: raises `Away`."""
        parts: list[bytes] = []
        while True:
            final, opcode, payload = await self._frame()
            if opcode == self.PING:
                self._write(self.PONG, payload)
            elif opcode == self.CLOSE:
                raise Away("the server closed the connection")
            elif opcode != self.PONG:
                parts.append(payload)
                if final:
                    return b"".join(parts).decode(errors="replace")

    async def close(self) -> None:
        """Say goodbye, and wait a moment until that is on its way."""
        with contextlib.suppress(OSError, TimeoutError):
            self._write(self.CLOSE, (1000).to_bytes(2))
            async with asyncio.timeout(1):
                await self._writer.drain()
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()

    async def _frame(self) -> tuple[bool, int, bytes]:
        try:
            first, second = await self._head()
            async with asyncio.timeout(ANSWER_WITHIN + SILENCE):
                size = second & 0x7F
                if size > 125:
                    size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8))
                return bool(first & 0x80), first & 0x0F, await self._reader.readexactly(size)
        except TimeoutError:
            raise Away("the server has gone silent") from None
        except (OSError, EOFError) as error:
            raise Away(reason(error)) from None

    async def _head(self) -> bytes:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE):
                return await self._reader.readexactly(2)
        self._write(self.PING, b"")
        async with asyncio.timeout(SILENCE):
            return await self._reader.readexactly(2)

    def _write(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 65_536:
            length = b"\xfe" + size.to_bytes(2)
        else:
            length = b"\xff" + size.to_bytes(8)
        key = os.urandom(4)
        self._writer.write(bytes([0x80 | opcode]) + length + key + masked(payload, key))


def masked(data: bytes, key: bytes) -> bytes:
    """`data`, each byte combined with the one of the key that falls on it."""
    pad = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(pad)).to_bytes(len(data))


async def dial(url: SplitResult) -> tuple[StreamReader, StreamWriter]:
    """A connection to the first address of a server that takes one. Raises `Away`."""
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    tls = ssl.create_default_context() if url.scheme == "https" else None
    problem: Exception = OSError("it has no address")
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            found = await in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, TimeoutError, UnicodeError) as error:
        problem, found = error, []
    for address in dict.fromkeys(item[4][0] for item in found):
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                return await asyncio.open_connection(
                    str(address), port, ssl=tls, server_hostname=host if tls else None
                )
        except (OSError, TimeoutError) as error:
            problem = error
    raise Away(f"cannot reach {url.netloc}: {reason(problem)}")


async def shake_hands(
    reader: StreamReader, writer: StreamWriter, url: SplitResult, headers: Mapping[str, str]
) -> None:
    """Make a WebSocket of an HTTP connection. Raises `Refused`, `Away`, and what streams raise."""
    key = base64.b64encode(os.urandom(16))
    lines = [f"GET {url.path}?{url.query} HTTP/1.1", f"Host: {url.netloc.rpartition('@')[2]}"]
    lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += [f"Sec-WebSocket-Key: {key.decode()}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split()[1]) if re.match(r"HTTP/1\.1 \d{3}\b", head[0]) else 0
    fields = {name.strip().lower(): value.strip() for name, _, value in map(colon, head[1:])}
    if status != 101:
        size = fields.get("content-length", "")
        body = (
            await reader.readexactly(min(int(size), CHUNK))
            if re.fullmatch(r"[0-9]{1,9}", size)
            else b""
        )
        raise refusal(status, fields, body)
    accept = base64.b64encode(hashlib.sha1(key + WebSocket.GUID).digest()).decode()
    if fields.get("sec-websocket-accept") != accept:
        raise Away("what answers is not a WebSocket server")


def refusal(status: int, fields: Mapping[str, str], body: bytes) -> Away | Refused:
    """Why an HTTP server did not open a WebSocket."""
    with contextlib.suppress(ValueError):
        answer = json.loads(body)
        if isinstance(answer, dict) and answer.get("error"):
            return Refused(answer)
    if "location" in fields:
        return Away(f"the server is at another address: {fields['location']}")
    return Away(f"what answers is no Hourglass server, or that is away: HTTP {status}")


def colon(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def reason(error: Exception) -> str:
    """What an exception of the network says to people."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, EOFError):
        return "the connection was lost"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, OSError) and not isinstance(error, (socket.gaierror, ssl.SSLError)):
        return os.strerror(error.errno) if error.errno else str(error)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def in_thread(work: Callable[[], Result]) -> Result:
    """What `work` returns in a thread that nobody waits for at the end, unlike `asyncio`'s."""
    loop = asyncio.get_running_loop()
    future: Future[Result] = loop.create_future()

    def finish(result: Result | None, error: Exception | None) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(result)  # type: ignore[arg-type]

    def target() -> None:
        try:
            outcome: tuple[Result | None, Exception | None] = work(), None
        except Exception as error:
            outcome = None, error
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(finish, *outcome)

    threading.Thread(target=target, daemon=True).start()
    return await future


# ---------------------------------------------------------------------------------------- Line


OnEvent = Callable[[str, Json], None]


class Line:
    """Commands and their answers, and events, over one connection."""

    def __init__(self, socket: WebSocket, on_event: OnEvent) -> None:
        self._socket = socket
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._answers: dict[int, Future[Json]] = {}
        self._lost: Away | BrokenPipeError | None = None
        self.reading = asyncio.create_task(self._read())
        """Ends when the connection is lost, and never raises."""

    async def call(self, command: str, **fields: Any) -> Json:
        """Give a command; its answer. Raises `Refused`, and `Away` when it is not known whether the
        command was carried out."""
        self.check()
        id = next(self._ids)
        answer: Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[id] = answer
        told = {name: value for name, value in fields.items() if value is not None}
        message = to_json({"route": command, "id": id, **told})
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._socket.send(message)
                found = await answer
        except TimeoutError:
            raise Away(f"the server does not answer {command}") from None
        finally:
            del self._answers[id]
            answer.cancel()
        if not found.get("ok"):
            raise Refused(found)
        return found

    async def until(self, event: asyncio.Event) -> None:
        """Wait until an event is set. Raises what `check` does."""
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({self.reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not event.is_set():
            self.check()

    def check(self) -> None:
        """Raises `Away` when the connection is lost, and what kept an event from being printed."""
        if self._lost is not None:
            raise self._lost

    async def _read(self) -> None:
        try:
            while True:
                self._take(json.loads(await self._socket.receive()))
        except (Away, BrokenPipeError) as lost:  # The latter when nobody reads what we print.
            self._lost = lost
        except Exception as error:
            self._lost = Away(f"what the server says is not understood: {error!r}")
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._lost)

    def _take(self, message: Json) -> None:
        answer = self._answers.get(message.get("id", 0))
        if "event" in message:
            self._on_event(message["event"], message)
        elif answer is not None and not answer.done():
            del message["id"]
            answer.set_result(message)


@contextlib.asynccontextmanager
async def connected(
    settings: Settings,
    on_event: OnEvent = lambda name, event: None,
) -> AsyncIterator[Line]:
    """A line to the server, in no room yet. Raises `Away` and `Refused`."""
    query = {"name": settings.by, "via": "cli", "rooms": ""}
    url = settings.url
    url = url._replace(path=url.path.rstrip("/") + "/ws", query=urlencode(query, errors="replace"))
    headers = {"User-Agent": "hourglass.py"}
    if token := settings.read_token():
        headers["Authorization"] = f"Bearer {token}"
    socket = await WebSocket.connect(url, headers)
    line = Line(socket, on_event)
    try:
        yield line
    finally:
        line.reading.cancel()
        await socket.close()


class Backoff:
    """How long to wait before connecting again: ever longer, until a line was up for long enough.

    One that the server only takes to say no must not make us come back at once, again and again.
    """

    def __init__(self) -> None:
        self._attempt = 0
        self._up_since: float | None = None

    def up(self) -> None:
        """There is a line, from now until the next `seconds`."""
        self._up_since = clock()

    def seconds(self) -> float:
        """The next wait; random, so that a crowd does not come at once."""
        least, most = BACKOFF
        if self._up_since is not None and clock() - self._up_since > most:
            self._attempt = 0
        self._up_since = None
        wait = random.uniform(0.3, 1) * min(most, least * 2.0**self._attempt)
        self._attempt = min(self._attempt + 1, 10)
        return wait


async def over_lines(
    connect: Callable[[], contextlib.AbstractAsyncContextManager[Line]],
    use: Callable[[Line], Awaitable[Result]],
    tell: Callable[[str], None],
) -> Result:
    """What `use` returns, over as many lines as it takes; `tell` hears why one was lost.

    Raises `Refused` when it is of no use to try again.
    """
    backoff = Backoff()
    while True:
        try:
            async with connect() as line:
                backoff.up()
                return await use(line)
        except Away as away:
            tell(str(away))
        except Refused as refused:
            if not refused.passing:
                raise
            tell(str(refused))
        await asyncio.sleep(backoff.seconds())


# -------------------------------------------------------------------------------------- Output


ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
"""What colours a terminal, moves its cursor or sets its title."""
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


def printable(text: str, keep: str = "") -> str:
    """A text without what could drive a terminal, but for the characters to keep."""
    return "".join(c for c in ESCAPE.sub("", text) if c.isprintable() or c in keep)


def in_bytes(size: float) -> str:
    """A size as people write it: "812 B", "1.2 MB"."""
    units = ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.1f} {units[0]}" if size < 10 and units[0] != "B" else f"{size:.0f} {units[0]}"


# ------------------------------------------------------------------------------------- Command


class Tree:
    """All processes below this one, but for those that were there before.

    On Linux what loses its parent becomes our child (we are the *subreaper*), so that the tree is
    complete even when a part of it has left the session. Elsewhere what is no longer below us is
    found by its process group alone.
    """

    def __init__(self) -> None:
        self.group: int | None = None
        """The process group in which most of it is."""
        self._not_ours = {pid for pid, (parent, _) in processes().items() if parent == os.getpid()}
        self._complete = adopt_orphans()

    def alive(self) -> dict[int, int]:
        """Each process that has not ended, with its process group."""
        found, below = {}, defaultdict(list)
        for pid, (parent, group) in processes().items():
            below[parent].append((pid, group))
            if group == self.group and not self._complete:
                found[pid] = group
        pending = [item for item in below[os.getpid()] if item[0] not in self._not_ours]
        while pending:
            pid, group = pending.pop()
            found[pid] = group
            pending += below.pop(pid, [])
        return found

    async def end(self, grace: float, say: Callable[[str], None]) -> None:
        """SIGTERM for all, after `grace` seconds SIGKILL; returns when none is left."""
        self._signal(signal.SIGTERM, signal.SIGCONT)
        patience = clock() + grace
        while self.alive() and clock() < patience:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        patience = clock() + 5
        while alive := self.alive():
            self._signal(signal.SIGKILL)
            if clock() > patience:
                patience = float("inf")
                say(f"cannot end {', '.join(map(str, sorted(alive)))}; still trying")
            await asyncio.sleep(0.02)

    def _signal(self, *signums: int) -> None:
        alive = self.alive()
        for signum in signums:
            # The group is signalled at once, and cannot grow meanwhile.
            if self.group is not None and self.group in alive.values():
                send(os.killpg, self.group, signum)
            for pid in alive:
                send(os.kill, pid, signum)


def send(how: Callable[[int, int], None], target: int, signum: int) -> None:
    """Send a signal to what may be gone, or not ours to signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(target, signum)


class Command:
    """A process in a session of its own, and all that it starts."""

    def __init__(self, say: Callable[[str], None], group: int) -> None:
        """To `group` the process group is written, for whoever has to end it in our place."""
        self._say = say
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._tree = Tree()
        self._pumps: list[Pump] = []
        self._stop_reading, self._stop_writing = os.pipe()
        self.exited: Future[int] = self._loop.create_future()
        """The exit code, as shells have it: 128 and the number of the signal that ended it."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def start(self, argv: Sequence[str], feed: Callable[[str], None]) -> None:
        """Start it, its output passed on and fed to `feed`. Raises `OSError`."""
        outputs = {1: os.pipe()}
        # One pipe for both, where both go to the same place: that keeps their order.
        outputs[2] = outputs[1] if same_file(1, 2) else os.pipe()
        try:
            self._process = subprocess.Popen(
                argv, stdout=outputs[1][1], stderr=outputs[2][1], start_new_session=True
            )
        finally:
            for _, writing in set(outputs.values()):
                os.close(writing)
        self._tree.group = self._process.pid
        with contextlib.suppress(BrokenPipeError):  # Nobody guards us: that is heard elsewhere.
            os.write(self._group, str(self._process.pid).encode())
        for reading, target in {reading: fd for fd, (reading, _) in outputs.items()}.items():
            pump = Pump(reading, target, feed, self._stop_reading)
            pump.start()
            self._pumps.append(pump)

    def signal(self, signum: int) -> None:
        """Pass a signal on to the process group, as a terminal would."""
        if self._process is not None and not self.exited.done():
            send(os.killpg, self._process.pid, signum)

    async def end(self, grace: float) -> None:
        """End it with all that it has started; returns when that is gone."""
        await self._tree.end(grace, self._say)
        await self.exited

    async def drained(self, within: float | None = None) -> None:
        """Wait until the output of a command that has exited is passed on, or some seconds.

        What it has left running may hold the pipes open; that is not waited for.
        """
        if self._stop_writing >= 0:
            os.close(self._stop_writing)
            self._stop_writing = -1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                for pump in self._pumps:
                    await pump.done.wait()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self._process is not None and pid == self._process.pid:
                    code = os.waitstatus_to_exitcode(status)
                    self._process.returncode = code
                    self.exited.set_result(code if code >= 0 else 128 - code)


def adopt_orphans() -> bool:
    """Become the parent of what our descendants leave behind, where the system can do that."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            return bool(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)  # PR_SET_CHILD_SUBREAPER
    return False


def processes() -> dict[int, tuple[int, int]]:
    """The parent and the process group of every process that has not ended."""
    if not os.path.exists("/proc/self/stat"):
        return processes_by_ps()
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The name of the command, in parentheses, may hold anything.
                state, parent, group = file.read().rpartition(b")")[2].split()[:3]
                if state not in (b"Z", b"X"):
                    found[int(name)] = int(parent), int(group)
    return found


def processes_by_ps() -> dict[int, tuple[int, int]]:
    """The same where there is no /proc, as on macOS."""
    ps = subprocess.Popen(
        ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], stdout=subprocess.PIPE, text=True
    )
    lines = ps.communicate()[0].splitlines()
    rows = [line.split() for line in lines]
    alive = [row for row in rows if not row[3].startswith("Z") and row[0] != str(ps.pid)]
    return {int(pid): (int(parent), int(group)) for pid, parent, group, *_ in alive}


def same_file(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same place."""
    return os.path.sameopenfile(one, other)


# --------------------------------------------------------------------------------------- Owner


@dataclass(frozen=True)
class Plan:
    """The job to be started; times in seconds, `lease` None for none."""

    connid: str
    time: float
    lease: float | None = None
    note: str | None = None
    if_running: str = "reject"


class Owner:
    """Keeps a job on the server for as long as its command runs, over however many connections.

    Each connection joins the job, to hear of its end; requests it, or renews it and so learns
    whether it was ended meanwhile; then tells what the command prints and how far it is; and last
    how the command ended. A job that the server has lost is requested anew, with the time left.
    """

    def __init__(
        self, settings: Settings, plan: Plan, output: Output, say: Callable[[str], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._plan = plan
        self._output = output
        self._say = say
        self.admitted: Future[None] = loop.create_future()
        """Done when the job has started, or the server is away; else raises `Refused`."""
        self.ended: Future[Json] = loop.create_future()
        """How the server ended the job: somebody killed it, or its time ran out."""
        self._limit_at: float | None = None
        self._run: str | None = None
        self._last_end: Json | None = None
        # By this the server knows the request again whose answer was lost.
        self._key = secrets.token_hex(16)
        # Whether there may be one: it may have started our job.
        self._asked = False
        self._ask_again_at = 0.0
        self._over = False
        self._progress = Progress()
        self._told: tuple[Progress, float] = Progress(), 0.0
        self._takes_output = True
        self._result: Json | None = None
        self._wake = asyncio.Event()
        self._complained = ""
        self._keeping = asyncio.create_task(self._keep())

    def begin(self) -> float:
        """The command starts, whatever the server says later; when its time is over, by `clock`."""
        self._admit()
        self._limit_at = clock() + self._plan.time
        return self._limit_at

    async def report(self, result: Json, within: float) -> None:
        """Tell how the command ended, trying for as long as `within` seconds."""
        self._result = result
        self._wake.set()
        await asyncio.wait({self._keeping}, timeout=min(within, LAST_TRY))
        if self._keeping.done():
            return
        if self._run is not None or self._asked:
            await asyncio.wait({self._keeping}, timeout=within)
        if not self._keeping.done():
            self._say("the server could not be told how the command ended")

    async def close(self) -> None:
        self._keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeping

    async def _keep(self) -> None:
        backoff = Backoff()
        while True:
            try:
                async with connected(self._settings, self._heard) as line:
                    backoff.up()
                    await self._serve(line)
                    return
            except (Away, Refused) as problem:
                if (
                    not self.admitted.done()
                    and isinstance(problem, Refused)
                    and not problem.passing
                ):
                    self.admitted.set_exception(problem)
                    return
                self._complain(str(problem))
            except Exception as error:  # Whatever is wrong with the server, the command goes on.
                self._complain(f"the server is not understood: {error!r}")
            self._admit()
            await self._pause((Backoff() if self._result else backoff).seconds())

    async def _serve(self, line: Line) -> None:
        await self._call(line, "join")
        if self._run is not None:
            await self._renew(line)
        if self._run is not None:
            self._complain("")
        while True:
            if self._run is None and clock() >= self._ask_again_at:
                await self._request(line)
            self._admit()
            await self._tell(line)
            if self._result is not None:
                await self._tell_end(line, self._result)
                return
            await self._pause(TICK)
            line.check()

    def _admit(self) -> None:
        if not self.admitted.done():
            self.admitted.set_result(None)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _request(self, line: Line) -> None:
        """Start the job, with the time that is left to the command.

        One that has ended without the server is started all the same, to be seen in the history.
        """
        left = self._plan.time if self._limit_at is None else self._limit_at - clock()
        if self._result is not None:
            left = max(left, 1.0)
        if left <= 0 or self._over:
            return
        self._asked = True
        try:
            answer = await self._call(
                line,
                "request",
                key=self._key,
                time=left,
                lease=self._plan.lease,
                note=self._plan.note,
                if_running=self._plan.if_running,
            )
        except Refused as refused:
            if not refused.unknown:
                self._asked = False
            if refused.code != "conflict":
                raise
            answer = refused.answer
        job = answer["job"]
        if answer.get("result") == "started":
            self._begin_run(job["run"])
            if job["state"] != "running":
                self._end(job)
            return
        taken = f"{self._plan.connid} is running already, started by {job['by']}"
        if not self.admitted.done():
            raise Refused.here("conflict", taken, job)
        # Too late not to run: the command goes on within its time, and waits for the name.
        self._complain(taken)
        self._asked = False
        self._ask_again_at = clock() + ASK_AGAIN

    def _begin_run(self, run: str) -> None:
        self._run = run
        self._asked = False
        self._told = Progress(), clock()
        self._complain("")
        if self._last_end is not None and self._last_end["run"] == run:
            self._end(self._last_end)

    def _forget_run(self) -> None:
        """Have the job start anew."""
        self._run = None
        self._key = secrets.token_hex(16)

    async def _tell(self, line: Line) -> None:
        """Tell what there is to tell of output and progress, and renew the lease."""
        self._progress = self._output.progress() or self._progress
        if self._run is None or self._over:
            return
        if self._takes_output and (text := self._output.take()):
            try:
                await self._call(line, "output", run=self._run, text=text)
            except Refused as refused:
                if refused.passing:
                    raise
                self._takes_output = refused.code == "not_running"
        if self._run is not None and not self.ended.done() and self._result is None:
            told, told_at = self._told
            lease = self._plan.lease
            due = lease is not None and clock() >= told_at + lease / 3
            if due or (told != self._progress and clock() >= told_at + PROGRESS_EVERY):
                await self._renew(line)

    async def _renew(self, line: Line) -> None:
        """Tell the latest progress, which renews the lease; or learn that the job has ended."""
        progress = self._progress
        try:
            await self._call(
                line, "progress", run=self._run, done=progress.done, note=progress.note
            )
        except Refused as refused:
            if refused.code != "not_running":
                raise
            job = refused.job
            if job is not None and job["run"] == self._run:
                self._end(job)
            else:
                self._forget_run()  # The server has lost its jobs, or forgotten ours: start anew.
        self._told = progress, clock()

    def _heard(self, name: str, event: Json) -> None:
        if name in ("killed", "finished") and event["connid"] == self._plan.connid:
            self._last_end = {**event, "state": name}
            if event["run"] == self._run:
                self._end(self._last_end)

    def _end(self, job: Json) -> None:
        """The server has ended the run."""
        if self._over or self.ended.done():
            return
        if job["state"] == "killed" or job["outcome"] == "elapsed":
            self.ended.set_result(job)
        elif job["outcome"] == "lost" and self._result is None:
            self._forget_run()  # We were away for longer than the lease: start anew.
        else:
            self._over = True  # Lost as it ended, or somebody has said for it that it is done.

    async def _tell_end(self, line: Line, result: Json) -> None:
        if self._run is None or self._over:
            return
        if not self.ended.done():
            outcome = "done" if result["exit"] == 0 else "failed"
            try:
                await self._finish(line, outcome, result)
                return
            except Refused as refused:
                job = refused.job
                if refused.code != "not_running" or job is None or job["run"] != self._run:
                    raise
                self._end(job)  # It was killed in the same moment.
        if self.ended.done() and self.ended.result()["state"] == "killed":
            await self._call(line, "stopped", run=self._run, exit=result["exit"])

    async def _finish(self, line: Line, outcome: str, result: Json) -> None:
        try:
            await self._call(line, "finish", run=self._run, outcome=outcome, result=result)
        except Refused as refused:
            if refused.code != "invalid":
                raise
            # The server takes less than usual.
            bare = {"exit": result["exit"]}
            await self._call(line, "finish", run=self._run, outcome=outcome, result=bare)

    async def _call(self, line: Line, command: str, **fields: Any) -> Json:
        names = {"room": self._settings.room, "connid": self._plan.connid}
        return await line.call(command, **names, **fields)

    def _complain(self, problem: str) -> None:
        """Say what is wrong, once until it is another thing; nothing is wrong when empty."""
        if problem and problem != self._complained:
            self._say(f"{problem}; the command runs on, within its time")
        elif self._complained and not problem:
            self._say("the job is on the server")
        self._complained = problem


# ----------------------------------------------------------------------------------------- run


class Notices:
    """Says things on stderr, from a thread: whoever reads that may not do so."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        if not self._quiet:
            self._queue.put(f"hourglass: {printable(text)}\n")

    def close(self) -> None:
        """Wait a moment for what is still to be said."""
        self._queue.put(None)
        self._thread.join(1)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (text := self._queue.get()) is not None:
                os.write(2, text.encode(errors="replace"))


class Signals:
    """Passes the signals that we get on to the command."""

    PASSED = (
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGHUP,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    )

    def __init__(self, command: Command, guard: int) -> None:
        """`guard` is readable when the process that guards us is gone: that is like SIGTERM."""
        self._command = command
        loop = asyncio.get_running_loop()
        self.first: Future[int] = loop.create_future()
        """The first signal that asks for an end."""
        self.terminate: Future[int] = loop.create_future()
        """SIGTERM: a supervisor, which will not wait for ever."""
        self.insisted: Future[int] = loop.create_future()
        """Another one, or one after the command's end, or nobody guards us any more."""
        for signum in self.PASSED:
            # What was ignored before, as SIGHUP is under nohup, stays so for the command too.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                loop.add_signal_handler(signum, self._pass_on, signum)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.PASSED)  # See `guarded`.
        loop.add_reader(guard, self._unguarded, guard)

    def _unguarded(self, guard: int) -> None:
        asyncio.get_running_loop().remove_reader(guard)
        self._pass_on(signal.SIGTERM)
        settle(self.insisted, signal.SIGTERM)

    def _pass_on(self, signum: int) -> None:
        self._command.signal(signum)
        if signum in (signal.SIGUSR1, signal.SIGUSR2):
            return
        settle(self.first, signum)
        if self._command.exited.done() or (signum == signal.SIGTERM and self.terminate.done()):
            settle(self.insisted, signum)
        if signum == signal.SIGTERM:
            settle(self.terminate, signum)


def settle(future: Future[int], value: int) -> None:
    """The first value stays."""
    if not future.done():
        future.set_result(value)


def guarded(work: Callable[[int, int], int], grace: float) -> int:
    """Do `work` in a process of its own; its exit code.

    The two guard each other, since nobody cleans up after a SIGKILL of their own. When the worker
    is killed, we end what it has left behind: its command's process group, which it writes to the
    second pipe, is all that some systems let us find. When we are, the first pipe, whose reading
    end `work` is given, comes to its end, and the worker goes on as after a SIGTERM.
    """
    tree = Tree()
    reading, writing = os.pipe()
    group_reading, group_writing = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, Signals.PASSED)
    worker = os.fork()
    if worker == 0:
        os.close(writing)
        os.close(group_reading)
        os.setsid()  # What the terminal sends comes to us by the guard alone, and so only once.
        os._exit(work(reading, group_writing))
    os.close(reading)
    os.close(group_writing)
    for signum in Signals.PASSED:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, lambda signum, _: send(os.kill, worker, signum))
    # Stopped by Ctrl-Z, nothing would hold the command to its time.
    signal.signal(signal.SIGTSTP, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, Signals.PASSED)
    _, status = os.waitpid(worker, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        tree.group = int(os.read(group_reading, 20) or 0) or None
        asyncio.run(tree.end(grace, lambda text: print(f"hourglass: {text}", file=sys.stderr)))
    return code if code >= 0 else 128 - code


def work(options: argparse.Namespace, settings: Settings, guard: int, group: int) -> int:
    """Run a command as a job; the exit code.

    `guard` is readable when nobody guards us; to `group` the command's process group is written.
    """
    try:
        return asyncio.run(run(options, settings, guard, group))
    except BaseException:
        traceback.print_exc()
        os.kill(os.getpid(), signal.SIGKILL)  # The guard ends what we can no longer answer for.
        raise


async def run(options: argparse.Namespace, settings: Settings, guard: int, group: int) -> int:
    """Run a command as a job; the exit code."""
    notices = Notices(options.quiet)
    argv = options.command[1:] if options.command[:1] == ["--"] else options.command
    lease = options.lease or None
    name = options.name or name_of(argv)
    plan = Plan(name, options.time, lease, options.note, options.if_running)
    output = Output([options.progress] if options.progress else PROGRESS)
    command = Command(notices.say, group)
    signals = Signals(command, guard)
    owner = Owner(settings, plan, output, notices.say)
    try:
        return await Run(options, command, signals, owner, output, notices.say).run(argv)
    except Refused as refused:
        notices.say(f"not run: {refused}")
        if refused.code != "conflict":
            return Exit.NOT_RUN
        return Exit.DONE if options.if_running == "keep" else Exit.CONFLICT
    finally:
        await owner.close()
        notices.close()


INTERPRETERS = re.compile(r"(python|node|ruby|perl|php|bash|dash|ksh|zsh|sh)[\d.]*")


def name_of(argv: Sequence[str]) -> str:
    """What to call a command: its program, or the script that its interpreter is given."""
    program = Path(argv[0]).name
    if INTERPRETERS.fullmatch(program):
        for arg in argv[1:]:
            if arg in ("-c", "-e"):
                break
            if not arg.startswith("-"):
                return Path(arg).name or program
    return program


@dataclass
class Run:
    """One command and one job, joined."""

    options: argparse.Namespace
    command: Command
    signals: Signals
    owner: Owner
    output: Output
    say: Callable[[str], None]

    async def run(self, argv: Sequence[str]) -> int:
        """Run the command; the exit code. Raises `Refused` when the job may not start."""
        patience = self.options.patience
        waiting: set[Future[Any]] = {self.owner.admitted, self.signals.first}
        await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if self.owner.admitted.done():
            self.owner.admitted.result()
        if self.signals.first.done():
            return await self._not_run(128 + self.signals.first.result(), "interrupted")
        limit_at = self.owner.begin()
        try:
            self.command.start(argv, self.output.feed)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            code = Exit.NOT_FOUND if missing else Exit.NOT_EXECUTABLE
            return await self._not_run(code, f"{argv[0]}: {error.strerror}")
        code = await self._until_end(limit_at)
        await self.command.drained(DRAIN)
        result = {"exit": self.command.exited.result(), "output": self.output.last_lines()}
        await self.owner.report(result, patience)
        drained = asyncio.create_task(self.command.drained())
        # Whoever reads our output may never do so again.
        left: set[Future[Any]] = {drained, self.signals.insisted}
        await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        return code

    async def _not_run(self, code: int, why: str) -> int:
        self.say(why)
        await self.owner.report({"exit": code, "output": why}, self.options.patience)
        return code

    async def _until_end(self, limit_at: float) -> int:
        """Wait for the end of the command, or bring it about; our exit code."""
        exited, killed = self.command.exited, self.owner.ended
        limit = asyncio.create_task(until(limit_at))
        causes: set[Future[Any]] = {exited, killed, limit, self.signals.terminate}
        await asyncio.wait(causes, return_when=asyncio.FIRST_COMPLETED)
        limit.cancel()
        if exited.done():
            return exited.result()
        code = None
        if killed.done() and killed.result()["state"] == "killed":
            self.say(killing(killed.result()))
            code = Exit.KILLED
        elif killed.done() or limit.done():
            self.say(f"its time of {duration(self.options.time)} is over")
            code = Exit.TIMED_OUT
        await self.command.end(self.options.grace)
        return exited.result() if code is None else code


async def until(at: float) -> None:
    """Wait until `clock` says so, in steps: the loop's own clock may stand still in between."""
    while (left := at - clock()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(min(1, left))


# ----------------------------------------------------------------------------------- one-shots


async def start(options: argparse.Namespace, settings: Settings) -> Json:
    return await once(
        settings,
        "request",
        connid=options.name,
        time=options.time,
        lease=options.lease or None,
        note=options.note,
        if_running=options.if_running,
        key=options.key,
    )


async def kill(options: argparse.Namespace, settings: Settings) -> Json:
    return await once(settings, "kill", connid=options.name, run=options.run, reason=options.reason)


async def status(options: argparse.Namespace, settings: Settings) -> Json:
    return await once(settings, "status", connid=options.name)


async def history(options: argparse.Namespace, settings: Settings) -> Json:
    return await once(
        settings, "history", connid=options.name, limit=options.limit, before=options.before
    )


async def once(settings: Settings, command: str, **fields: Any) -> Json:
    """Connect, give one command, and leave; its answer. Raises `Away` and `Refused`."""
    async with connected(settings) as line:
        return await line.call(command, room=settings.room, **fields)


def show(answer: Json) -> None:
    """Print an answer for people."""
    if answer["result"] == "status":
        table(
            ("NAME", "LEFT", "TIME", "STARTED BY", "PROGRESS", "NOTE"),
            map(running_row, answer["jobs"]),
        )
    elif answer["result"] == "history":
        rows = map(ended_row, answer["jobs"])
        table(("NAME", "END", "AT", "RAN", "STARTED BY", "MORE"), rows)
        if answer.get("before"):
            print(f"older ones: --before {answer['before']}")
    else:
        print(f"{answer['result']}: {printable(answer['job']['connid'])} ({answer['job']['run']})")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns as wide as they need to be."""
    lines = [tuple(head), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def running_row(job: Json) -> Sequence[str]:
    left, limit = time_left(job["remaining"]), duration(job["time"])
    return job["connid"], left, limit, job["by"], percent(job), job["note"] or ""


def ended_row(job: Json) -> Sequence[str]:
    ran = duration(job["ended_at"] - job["started_at"])
    return job["connid"], ending(job), instant(job["ended_at"]), ran, job["started_by"], facts(job)


# -------------------------------------------------------------------------------------- words


def duration(seconds: float) -> str:
    """A duration as a clock reads it: "1:05", "2h 03m", "3d 04h"."""
    whole = max(0, int(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600:02}h"


def time_left(seconds: float) -> str:
    """A duration rounded up: "0:00" only when nothing is left."""
    return duration(-(-(seconds - 1e-3) // 1))


def instant(at: float) -> str:
    """An instant of the server in the reader's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def percent(job: Json) -> str:
    """How far a job says that it is: "40% tables 12/30"."""
    told = job["progress"] or {}
    done = "" if told.get("done") is None else f"{told['done']:.0%}"
    return f"{done} {told.get('note') or ''}".strip()


def ending(job: Json) -> str:
    """How a job ended, in a word or two."""
    if job["state"] == "killed":
        return f"killed by {job['by']}"
    return "time ran out" if job["outcome"] == "elapsed" else str(job["outcome"])


def facts(job: Json) -> str:
    """What else there is to say about the end of a job."""
    found = [job["reason"]] if job.get("reason") else []
    if job["state"] == "killed" and job.get("stopped_at") is not None:
        found.append("stopped" if job["exit"] is None else f"stopped, exit {job['exit']}")
    result = job.get("result")
    if isinstance(result, dict) and "exit" in result:
        found.append(f"exit {result['exit']}")
    elif result is not None:
        found.append(to_json(result))
    if job.get("late"):
        found.append("recorded late")
    return ", ".join(found)


def killing(job: Json) -> str:
    why = f": {job['reason']}" if job.get("reason") else ""
    return f"killed by {job['by']}{why}"


# --------------------------------------------------------------------------------------- Board


class Board:
    """The state of a room, as its events tell it: the rules of the protocol's "Staying right"."""

    MOST_ENDED = 50

    def __init__(self) -> None:
        self.running: dict[str, Json] = {}
        """By run, the oldest first."""
        self.ended: dict[str, Json] = {}
        self.watching: Json = {"watching": 0, "names": []}
        self.behind = False
        self._epoch: str | None = None
        self._seq = 0
        self._ahead = 0.0

    @property
    def known(self) -> bool:
        """Whether a snapshot has come."""
        return self._epoch is not None

    @property
    def position(self) -> Json | None:
        """What to send as `since`."""
        return {"epoch": self._epoch, "seq": self._seq} if self.known else None

    def now(self) -> float:
        """The server's time."""
        return clock() + self._ahead

    def learn(self, now: float) -> None:
        """It is `now` by the server's clock, which we count on by ours: nobody can set that."""
        self._ahead = now - clock()

    def apply(self, name: str, event: Json) -> bool:
        """Take an event into account; false when it is no news, or others are missing before it:
        `behind` is set then."""
        if name == "snapshot":
            self._begin(event)
        elif name == "presence":
            self.watching = event
        elif name == "progress":
            if event["run"] in self.running:
                self.running[event["run"]]["progress"] = event
        elif "seq" in event:
            self.behind = event["seq"] > self._seq + 1
            if event["seq"] != self._seq + 1:
                return False
            self._seq = event["seq"]
            self._advance(name, event)
        return True

    def _begin(self, snapshot: Json) -> None:
        self.learn(snapshot["now"])
        self.behind = False
        if snapshot["epoch"] == self._epoch and snapshot["seq"] < self._seq:
            return
        self._epoch, self._seq = snapshot["epoch"], snapshot["seq"]
        running = sorted(snapshot["running"], key=lambda job: float(job["started_at"]))
        self.running = {job["run"]: job for job in running}
        self.ended = {job["run"]: job for job in snapshot["ended"]}

    def _advance(self, name: str, event: Json) -> None:
        if name == "started":
            self.running[event["job"]["run"]] = event["job"]
        elif name == "stopped":
            if event["run"] in self.ended:
                stopped = {"exit": event["exit"], "stopped_at": event["at"]}
                self.ended[event["run"]].update(stopped)
        elif event["run"] in self.running:
            job = self.running.pop(event["run"])
            end = {"state": name, "ended_at": event["at"], "started_by": job["by"]}
            self.ended[event["run"]] = {**job, **event, **end}
            if len(self.ended) > self.MOST_ENDED:
                del self.ended[next(iter(self.ended))]


async def keep_up(
    settings: Settings, board: Board, heard: OnEvent, changed: Callable[[str], None]
) -> None:
    """Hear a room for ever: each event is applied to the board and given to `heard`, once.

    `changed` is told what is wrong with the connection, and "" when it is live. Raises `Refused`
    when we are not let in.
    """
    behind = asyncio.Event()

    def take(name: str, event: Json) -> None:
        if name == "available":
            changed("" if event["available"] else "the server has lost its store")
        if board.apply(name, event):
            heard(name, event)
        elif board.behind:
            behind.set()

    async def listen(line: Line) -> None:
        while True:
            behind.clear()
            joined = await line.call("join", room=settings.room, since=board.position)
            # No snapshot comes where nothing was missed, and another server has another clock.
            board.learn(joined["now"])
            changed("")
            await line.until(behind)

    await over_lines(functools.partial(connected, settings, take), listen, changed)


# --------------------------------------------------------------------------------------- watch


async def watch(options: argparse.Namespace, settings: Settings) -> int:
    """Show a room or the output of a job, live; the exit code."""
    if options.name is not None:
        return await Follower(options.name, options.json, settings).follow()
    if sys.stdout.isatty() and not options.json:
        return await show_board(settings)

    def heard(name: str, event: Json) -> None:
        text = to_json(event) if options.json else sentence(name, event)
        if text:
            print(text, flush=True)

    await keep_up(settings, Board(), heard, complain)
    return Exit.DONE


def complain(problem: str) -> None:
    if problem:
        print(f"hourglass: {printable(problem)}; trying again", file=sys.stderr)


def sentence(name: str, event: Json) -> str:
    """An event of the log on one line; "" for the others."""
    if name == "started":
        job = event["job"]
        what = f"{job['connid']} started by {job['by']} for {duration(job['time'])}"
    elif name == "killed":
        what = f"{event['connid']} {killing(event)}"
    elif name == "finished":
        what = f"{event['connid']} finished: {event['outcome']}"
    elif name == "stopped":
        what = f"{event['connid']} stopped, exit {event['exit']}"
    else:
        return ""
    return f"{instant(event['at'])}  {printable(what)}"


class Follower:
    """Prints the output of one run of a job as it comes, until the run ends."""

    def __init__(self, connid: str, raw: bool, settings: Settings) -> None:
        """`raw` prints the events as JSON in place of the output alone."""
        self._connid = connid
        self._raw = raw
        self._settings = settings
        self._tty = sys.stdout.isatty()
        self._run: str | None = None
        self._printed: int | None = None
        self._end: Json | None = None
        self._over = asyncio.Event()

    async def follow(self) -> int:
        """The exit code: 0 when the job was done."""
        connect = functools.partial(connected, self._settings, self._heard)
        return await over_lines(connect, self._until_end, complain)

    async def _until_end(self, line: Line) -> int:
        await self._join(line)
        await line.until(self._over)
        await self._wait_for_stop(line)
        await self._join(line)  # What was printed last may still be on its way.
        return self._say_end()

    async def _join(self, line: Line) -> None:
        answer = await line.call("join", room=self._settings.room, connid=self._connid)
        job = answer.get("job")
        if job is None:
            message = f"nothing is known of {self._connid} in room {self._settings.room}"
            raise Refused.here("not_running", message)
        if self._run is None:
            self._run = job["run"]
        output = answer.get("output")
        if output is not None and job["run"] == self._run:
            self._print(output["offset"], output["text"])
        if job["run"] != self._run:
            job = await self._look_up(line)
        if job["state"] != "running":
            self._end = job
            self._over.set()

    async def _look_up(self, line: Line) -> Json:
        """The run that we follow, when another one has begun meanwhile."""
        answer = await line.call("history", room=self._settings.room, connid=self._connid)
        for job in answer["jobs"]:
            if job["run"] == self._run:
                return dict(job)
        message = f"{self._connid} is running again, and its last run is not known any more"
        raise Refused.here("not_running", message)

    def _heard(self, name: str, event: Json) -> None:
        if self._raw:
            print(to_json(event), flush=True)
        if event.get("run") != self._run or self._run is None:
            return
        if name == "output":
            self._print(event["offset"], event["text"])
        elif name in ("killed", "finished"):
            self._end = {**event, "state": name}
            self._over.set()
        elif name == "stopped" and self._end is not None:
            self._end["exit"] = event["exit"]
            self._end["stopped_at"] = event["at"]

    def _print(self, offset: int, text: str) -> None:
        """Print what was not printed yet, and say what was missed."""
        if self._raw:
            return
        if self._printed is None:
            self._printed = offset
        if offset > self._printed:
            self._write(f"\n… {in_bytes(offset - self._printed)} missed …\n")
        self._write(text[max(0, self._printed - offset) :])
        self._printed = max(self._printed, offset + len(text))

    def _write(self, text: str) -> None:
        sys.stdout.write(harmless(text) if self._tty else text)
        sys.stdout.flush()

    async def _wait_for_stop(self, line: Line) -> None:
        """What was killed may still print, and its owner may say when it is gone."""
        assert self._end is not None
        patience = clock() + STOP_WITHIN
        if self._end["state"] == "killed" and self._printed is not None:
            while self._end.get("stopped_at") is None and clock() < patience:
                line.check()
                await asyncio.sleep(0.05)

    def _say_end(self) -> int:
        assert self._end is not None
        if self._tty:
            self._write("\x1b[0m")
        more = facts(self._end)
        text = f"{self._connid}: {ending(self._end)}" + (f" ({more})" if more else "")
        print(f"hourglass: {printable(text)}", file=sys.stderr)
        return Exit.DONE if self._end.get("outcome") == "done" else Exit.FAILED


COLOURS_ONLY = re.compile(r"\x1b\[[0-9;]*m")


def harmless(text: str) -> str:
    """A text that colours a terminal at most."""
    keep = [found.group() for found in COLOURS_ONLY.finditer(text)]
    parts = [printable(part, keep="\n\r\t") for part in COLOURS_ONLY.split(text)]
    return "".join(itertools.chain(*itertools.zip_longest(parts, keep, fillvalue="")))


async def show_board(settings: Settings) -> int:
    """The live board, until somebody presses q."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ModuleNotFoundError:
        print(
            "hourglass: the board needs rich: `pip install rich`, or `uv run hourglass.py watch`",
            file=sys.stderr,
        )
        return Exit.FAILED
    board, problem = Board(), "connecting"

    def changed(now: str) -> None:
        nonlocal problem
        problem = now

    asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, lambda: None)
    console = Console()
    keeping = asyncio.create_task(keep_up(settings, board, lambda name, event: None, changed))
    with keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not keeping.done() and "q" not in pressed:
            live.update(picture(board, settings.room, problem, console.size), refresh=True)
            await asyncio.wait({keeping}, timeout=REDRAW_EVERY)
    if keeping.done():
        keeping.result()
    keeping.cancel()
    return Exit.DONE


@contextlib.contextmanager
def keys() -> Iterator[list[str]]:
    """The keys that are pressed meanwhile, which the terminal does not show."""
    pressed: list[str] = []
    if not sys.stdin.isatty():
        yield pressed
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    loop = asyncio.get_running_loop()
    loop.add_reader(0, lambda: pressed.extend(os.read(0, 64).decode(errors="replace")))
    try:
        yield pressed
    finally:
        loop.remove_reader(0)
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def picture(board: Board, room: str, problem: str, size: tuple[int, int]) -> "RenderableType":
    """The board as large as the terminal: what is running, then what has ended."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    width, height = size
    running = list(reversed(board.running.values()))
    ended = list(reversed(board.ended.values()))
    rows = max(0, height - 6)
    for_ended = min(len(ended), max(rows // 3, rows - max(1, len(running))))
    shown = running[: rows - for_ended]
    hidden = f", {len(running) - len(shown)} older ones hidden" if len(running) > len(shown) else ""
    nothing = "Nothing is running." if board.known else "Waiting for the server."
    parts: list[RenderableType] = [header(board, room, problem, width), Text()]
    parts += [Text.assemble((f"Running {len(running)}", "bold"), (hidden, "dim"))]
    parts += [running_table(shown, board.now(), width) if shown else Text(nothing, style="dim")]
    if for_ended:
        parts += [Text(), Text("Ended", style="bold"), ended_table(ended[:for_ended], width)]
    return Padding(Group(*parts), (0, 1))


def header(board: Board, room: str, problem: str, width: int) -> "RenderableType":
    from rich.text import Text

    names = ", ".join(sorted(set(map(printable, board.watching["names"]))))
    watching = f"{board.watching['watching']} watching: {names}   " if names else ""
    state = Text(f"● {printable(problem)}", "red") if problem else Text("● live", "green")
    head = Text.assemble(("Hourglass", "bold"), f" {room}")
    table = columns()
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, ratio=1)
    if width < 60:
        table.add_row(head, state)
    else:
        table.add_column(no_wrap=True, justify="right", max_width=width // 2)
        table.add_row(head, state, Text(f"{watching}q leaves", "dim"))
    return table


def running_table(jobs: Iterable[Json], now: float, width: int) -> "RenderableType":
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    table = columns()
    table.add_column(no_wrap=True, width=names_width(width))
    table.add_column(width=max(8, width // 5))
    table.add_column(no_wrap=True, justify="right", min_width=6)
    table.add_column(no_wrap=True, ratio=1)
    for job in jobs:
        left = max(0.0, job["deadline"] - now)
        colour = urgency(left, job["time"])
        bar = ProgressBar(job["time"], left, complete_style=colour, finished_style=colour)
        what = spaced((percent(job), "cyan"), (job["by"], ""), (job["note"] or "", "dim"))
        table.add_row(Text(printable(job["connid"])), bar, Text(time_left(left), colour), what)
    return table


def ended_table(jobs: Iterable[Json], width: int) -> "RenderableType":
    from rich.text import Text

    table = columns()
    table.add_column(no_wrap=True, width=names_width(width))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, ratio=1)
    for job in jobs:
        colour = "red" if job["state"] == "killed" else END_COLOURS.get(job["outcome"], "")
        ran = f"{duration(job['ended_at'] - job['started_at'])} of {duration(job['time'])}"
        what = spaced((ending(job), colour), (f"after {ran}", ""), (facts(job), "dim"))
        at = Text(instant(job["ended_at"])[-8:], "dim")
        table.add_row(Text(printable(job["connid"])), at, what)
    return table


def columns() -> "Table":
    """A table as wide as the terminal, without lines."""
    from rich.table import Table

    return Table.grid(expand=True, padding=(0, 2, 0, 0))


def names_width(width: int) -> int:
    return max(10, min(32, width // 4))


def spaced(*parts: tuple[str, str]) -> "RenderableType":
    """Texts with their styles, side by side; empty ones are left out."""
    from rich.text import Text

    said = [(printable(text), style) for text, style in parts if text]
    return Text("  ").join(Text(text, style) for text, style in said)


END_COLOURS = {"done": "green", "failed": "red", "lost": "magenta", "elapsed": "yellow"}


def urgency(left: float, limit: float) -> str:
    """The colour of a countdown."""
    if left < 0.1 * limit:
        return "red"
    return "yellow" if left < 0.3 * limit else "green"


# ---------------------------------------------------------------------------------------- main


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> float:
    """A duration as people type it: "90", "1.5", "10m", "1h30m"."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be seconds, or like 10m, 2h or 1h30m")
    *parts, _ = re.split(r"([smhd])", text)
    numbers, units = parts[::2], parts[1::2]
    return sum(float(n) * UNITS[unit] for n, unit in zip(numbers, units, strict=True))


def above_zero(text: str) -> float:
    value = seconds(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("it must be above 0")
    return value


def progress_pattern(text: str) -> re.Pattern[str]:
    """A pattern from which `from_match` can tell a progress."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"it is no regular expression: {error}") from None
    names = set(pattern.groupindex)
    if names and "percent" not in names and not {"done", "total"} <= names:
        raise argparse.ArgumentTypeError("it needs the group percent, or done and total")
    if not pattern.groups:
        raise argparse.ArgumentTypeError("it needs a group in parentheses for the percent")
    return pattern


class Parser(argparse.ArgumentParser):
    """A parser whose exit code for wrong usage can be chosen: that of `run` is no command's own."""

    usage_exit = Exit.USAGE

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.usage_exit, f"{self.prog}: {message}\n")


def parser() -> Parser:
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    where = common.add_argument_group("the server")
    where.add_argument("--url", help="its address (HOURGLASS_URL; http://127.0.0.1:8000)")
    where.add_argument("--token", help="where tokens are needed; HOURGLASS_TOKEN hides it better")
    where.add_argument("--room", help="the board to be on (HOURGLASS_ROOM; main)")
    where.add_argument(
        "--by", help="your name where no tokens are needed (HOURGLASS_BY; user@host)"
    )
    found = Parser(prog="hourglass", description=(__doc__ or "").split("\n")[0], parents=[common])
    commands = found.add_subparsers(dest="what", required=True, metavar="COMMAND")

    def add(name: str, help: str, named: str = "", scripted: bool = True) -> Parser:
        parser: Parser = commands.add_parser(name, help=help, description=help, parents=[common])
        if named:
            parser.add_argument("name", metavar="NAME", nargs=named if named == "?" else None)
        if scripted:
            parser.add_argument("--json", action="store_true", help="print the server's answer")
        return parser

    runs = add("run", "Run a command as a job.", scripted=False)
    runs.usage_exit = Exit.NOT_RUN
    runs.add_argument("--name", help="of the job (default: the command's)")
    add_job_options(runs, lease=30.0, time=600.0)
    runs.add_argument(
        "--grace", type=seconds, default=10.0, help="between SIGTERM and SIGKILL (default: 10)"
    )
    runs.add_argument(
        "--patience",
        type=seconds,
        default=10.0,
        help="to wait for an absent server, at the start and at the end (default: 10)",
    )
    runs.add_argument(
        "--progress",
        type=progress_pattern,
        metavar="REGEX",
        help="which lines tell progress, with a group percent, or done and total; and note",
    )
    runs.add_argument("-q", "--quiet", action="store_true", help="say nothing on stderr")
    runs.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")

    starts = add("start", "Start a job without a command.", "NAME")
    add_job_options(starts, lease=None, time=None)
    starts.add_argument(
        "--key", help="start it once, however often this is tried with the same key"
    )
    kills = add("kill", "Kill a running job.", "NAME")
    kills.add_argument("--run", help="only this run of it")
    kills.add_argument("--reason", help="for everyone to see")
    add("status", "Show what is running.", "?")
    add("watch", "Show the live board, or the output of one job.", "?")
    ended = add("history", "Show what has ended, newest first.", "?")
    ended.add_argument("--limit", type=int, default=20, help="how many (default: 20, at most 500)")
    ended.add_argument("--before", type=int, metavar="SEQ", help="the next page")
    return found


def add_job_options(parser: Parser, *, time: float | None, lease: float | None) -> None:
    parser.add_argument(
        "--time",
        type=above_zero,
        default=time,
        required=time is None,
        help="how long it may run: seconds, or like 10m, 2h" + (" (default: 600)" if time else ""),
    )
    parser.add_argument(
        "--lease",
        type=seconds,
        default=lease,
        help="seconds without a word after which it is taken for lost"
        + (" (default: 30; 0 for never)" if lease else ""),
    )
    parser.add_argument("--note", help="for everyone to see")
    parser.add_argument(
        "--if-running",
        choices=("reject", "keep", "replace"),
        default="reject",
        help="what to do when the name is running already (default: reject)",
    )


ONE_SHOTS = {"start": start, "kill": kill, "status": status, "history": history}


def main() -> int:
    """Do what the arguments say; the exit code."""
    for fd in (0, 1, 2):  # A pipe of ours must not get the place of one that is closed.
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = parser().parse_args()
    running = options.what == "run"
    if running and options.command in ([], ["--"]):
        print("hourglass run: which command? hourglass run -- COMMAND …", file=sys.stderr)
        return Exit.NOT_RUN
    try:
        settings = Settings.load(vars(options), os.environ)
        if running:
            return guarded(lambda *pipes: work(options, settings, *pipes), options.grace)
        if options.what == "watch":
            return asyncio.run(watch(options, settings))
        answer = asyncio.run(ONE_SHOTS[options.what](options, settings))
        print(to_json(answer)) if options.json else show(answer)
        return Exit.DONE
    except SettingsError as error:
        print(f"hourglass: {error}", file=sys.stderr)
        return Exit.NOT_RUN if running else Exit.USAGE
    except (Away, Refused) as problem:
        if options.json and isinstance(problem, Refused):
            print(to_json(problem.answer))
        print(f"hourglass: {problem}", file=sys.stderr)
        return problem.exit
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # Whoever reads our output has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())
