"""RFC 6455, as much of it as a client needs."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import ssl
import threading
from asyncio import Future, StreamReader, StreamWriter
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult

from hourglass.aio import timeout
from hourglass.errors import Away, Refused
from hourglass.output import CHUNK
from hourglass.proxy import proxy_for, tunnel
from hourglass.settings import Result

CONNECT_WITHIN = 5.0
"""Seconds for each address of the server."""
ANSWER_WITHIN = 10.0
SILENCE = 15.0
"""Seconds without a frame after which the server is pinged, and after as many more given up."""


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
            async with timeout(ANSWER_WITHIN):
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
            self._write(self.CLOSE, (1000).to_bytes(2, "big"))
            async with timeout(1):
                await self._writer.drain()
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()

    async def _frame(self) -> tuple[bool, int, bytes]:
        try:
            first, second = await self._head()
            async with timeout(ANSWER_WITHIN + SILENCE):
                size = second & 0x7F
                if size > 125:
                    length = await self._reader.readexactly(2 if size == 126 else 8)
                    size = int.from_bytes(length, "big")
                return bool(first & 0x80), first & 0x0F, await self._reader.readexactly(size)
        except TimeoutError:
            raise Away("the server has gone silent") from None
        except (OSError, EOFError) as error:
            raise Away(reason(error)) from None

    async def _head(self) -> bytes:
        with contextlib.suppress(TimeoutError):
            async with timeout(SILENCE):
                return await self._reader.readexactly(2)
        self._write(self.PING, b"")
        async with timeout(SILENCE):
            return await self._reader.readexactly(2)

    def _write(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 65_536:
            length = b"\xfe" + size.to_bytes(2, "big")
        else:
            length = b"\xff" + size.to_bytes(8, "big")
        key = os.urandom(4)
        self._writer.write(bytes([0x80 | opcode]) + length + key + masked(payload, key))


def masked(data: bytes, key: bytes) -> bytes:
    """`data`, each byte combined with the one of the key that falls on it."""
    pad = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(data), "big")


async def dial(url: SplitResult) -> tuple[StreamReader, StreamWriter]:
    """A connection to a server, through a proxy where there is one. Raises `Away`."""
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    tls = trust() if url.scheme == "https" else None
    proxy = proxy_for(url)
    if proxy is None:
        return await reach(host, port, tls)
    reader, writer = await reach(proxy.hostname or "", proxy.port or 80, None)
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            await tunnel(reader, writer, proxy, host, port)
            if tls is not None:
                await writer.start_tls(tls, server_hostname=host)
    except BaseException as error:
        writer.transport.abort()
        if isinstance(error, (OSError, EOFError, asyncio.LimitOverrunError)):
            where = f"{url.netloc} through the proxy {proxy.hostname}"
            raise Away(f"cannot reach {where}: {reason(error)}") from None
        raise
    return reader, writer


def trust() -> ssl.SSLContext:
    """What we know of certificates: the system's, or those that `SSL_CERT_FILE` names."""
    file = os.environ.get("SSL_CERT_FILE")
    if file and not os.access(file, os.R_OK):  # OpenSSL would not say so.
        raise Away(f"SSL_CERT_FILE names {file}, which cannot be read")
    return ssl.create_default_context()


async def reach(
    host: str, port: int, tls: ssl.SSLContext | None
) -> tuple[StreamReader, StreamWriter]:
    """A connection to the first address of a host that takes one. Raises `Away`."""
    problem: Exception = OSError("it has no address")
    try:
        async with timeout(CONNECT_WITHIN):
            found = await in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, TimeoutError, UnicodeError) as error:
        problem, found = error, []
    for address in dict.fromkeys(item[4][0] for item in found):
        try:
            async with timeout(CONNECT_WITHIN):
                return await asyncio.open_connection(
                    str(address), port, ssl=tls, server_hostname=host if tls else None
                )
        except (OSError, TimeoutError) as error:
            problem = error
    raise Away(f"cannot reach {host}:{port}: {reason(problem)}")


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
