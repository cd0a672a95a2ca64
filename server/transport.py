"""An Engine.IO WebSocket driver on aiohttp, made for fan-out: `install(sio)` puts it into a server.

python-engineio serves long polling and whatever is rare. The socket of a client that speaks over a
WebSocket is taken from aiohttp, unless `Driver.open` has it before aiohttp: no task, no request and
no headers stay for it. Its frames are read by aiohttp's own parser and dispatched at once, and what
one turn of the event loop produces for it leaves in one write. Nothing is compressed, so that one
frame serves all clients.

Private names of aiohttp and python-engineio are used in this file alone;
`tests/transport/test_transport.py` fails when a new version of them changes one.
"""

import asyncio
import base64
import hashlib
import logging
import struct
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakSet

import socketio
from aiohttp import StreamReader, WSCloseCode, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import (
    HttpRequestParser,
    HttpVersion,
    HttpVersion11,
    RawRequestMessage,
    WebSocketError,
    WebSocketReader,
    WebSocketWriter,
)
from aiohttp.http_exceptions import HttpProcessingError
from engineio.async_socket import AsyncSocket
from engineio.exceptions import ContentTooLongError, EngineIOError, UnknownPacketError
from engineio.packet import CLOSE, MESSAGE, NOOP, OPEN, PING, PONG, UPGRADE, Packet
from engineio.payload import Payload
from multidict import CIMultiDict, CIMultiDictProxy
from socketio.packet import CONNECT_ERROR

from server.budget import LITTLE, Holding
from server.frames import BadFrame, Frames, answer_to_close
from server.limits import Bucket, control_bucket
from server.multicast import MOST_JOINED, Multicast
from server.wheel import Wheel

log = logging.getLogger(__name__)

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What a server adds to the key of a client: RFC 6455, section 4.2.2."""
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)
SEPARATOR = "\x1e"
"""Stands between the packets of a payload: Engine.IO 4."""
VERSION = "13"
"""The version of WebSockets that there is: RFC 6455, section 4.1."""
MOST_WAITING = 64
"""Packets of a client that may wait for python-engineio before the client is read no more."""

MOST_PACKETS = 20_000
"""Packets that one POST may have; to take them apart keeps all others waiting."""

MOST_POLLED = 16
"""Packets that one poll is answered: clients on python-engineio leave where there are more."""

TURN = 16
"""Packets of a POST that are taken before it is the turn of others."""

APPLICATION = "application"
"""The reason for which an application has a client not read."""

MOST_UNREAD = 2**16
"""Bytes that a client may leave unread before nothing more is done that it would have to read."""

READ_AT_ONCE = 2**14
"""Bytes that are read from a connection before it is the turn of others: some hundred commands."""

TEXT = WSMsgType.TEXT
"""By a name of its own, as each look at a member of an enum costs as much as a call."""

FRAMING = 6
"""Bytes of a frame from a client beside its payload, at least."""

OnText = Callable[[str], bool]
Headers = CIMultiDict[str] | CIMultiDictProxy[str]

pack_medium = struct.Struct("!BBH").pack
pack_long = struct.Struct("!BBQ").pack


def frame(payload: bytes, kind: int = TEXT) -> bytes:
    """A whole, unmasked WebSocket frame, as a server sends it: RFC 6455, section 5.2."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | kind, size)) + payload
    if size < 2**16:
        return pack_medium(0x80 | kind, 126, size) + payload
    return pack_long(0x80 | kind, 127, size) + payload


PONG_PROBE_FRAME = frame(b"3probe")


class Undecoded:
    """Decodes nothing, in the place of the module `json`."""

    @staticmethod
    def loads(text: str) -> Any:
        """Raises the `ValueError` after which python-engineio takes a text as it is."""
        raise ValueError


class TextPacket(Packet):
    """A packet of a client. Packets of Socket.IO are texts, whatever they look like."""

    json = Undecoded


def decode_payload(text: str) -> Iterator[Packet]:
    """The packets of a POST, one by one: they may be many. Raises `ValueError` where there are too
    many, or one is none, and `UnknownPacketError` for one that no client of long polling sends.
    """
    if text.startswith("d="):  # A form, for JSONP.
        text = parse_qs(text).get("d", [""])[0]
    parts = text.split(SEPARATOR, MOST_PACKETS) if text else []
    if len(parts) > MOST_PACKETS:
        raise ValueError("too many packets")
    for part in parts:
        packet = TextPacket(encoded_packet=part)
        if packet.packet_type not in (CLOSE, PONG, MESSAGE):
            raise UnknownPacketError
        yield packet


class Prepared:
    """A message encoded once for any number of clients, of WebSockets and of long polling."""

    __slots__ = ("_packet", "_text", "frame")

    def __init__(self, text: bytes) -> None:
        """`text` is a packet of Socket.IO."""
        self.frame = frame(b"4" + text)
        self._text = text
        self._packet: Packet | None = None

    @property
    def packet(self) -> Packet:
        """The message for python-engineio."""
        if self._packet is None:
            self._packet = Packet(MESSAGE, self._text.decode())
        return self._packet


class ByteQueue(asyncio.Queue[Any]):
    """What waits for the next poll of a long-polling client, counted in bytes."""

    polled = False
    """Whether a poll is under way, and how many packets it may still be answered."""
    room = 0

    def __init__(self, driver: "Driver") -> None:
        super().__init__()
        self.size = 0
        self.since = 0.0
        """The time since when something has waited."""
        self._driver = driver

    def post(self, message: Prepared) -> None:
        """Queue a prepared message."""
        self.put_nowait(message.packet)

    def say(self, *packets: bytes) -> None:
        """Queue packets of Socket.IO."""
        for text in packets:
            self.put_nowait(Packet(MESSAGE, text.decode()))

    def get_nowait(self) -> Any:
        """The next packet; a poll that has been given enough finds none."""
        if self.polled:
            if self.room == 0:
                raise asyncio.QueueEmpty
            self.room -= 1
        return super().get_nowait()

    def _put(self, item: Any) -> None:
        if not self.size:
            self.since = self._driver.loop.time()
        size = _size(item)
        self.size += size
        if self.size > LITTLE:
            self._driver.grew(size)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self.size -= _size(item)
        return item


class Outbox:
    """Stands in the place of a queue once there is a WebSocket: what is put in goes out."""

    __slots__ = ("connection",)

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection

    @property
    def size(self) -> int:
        """Bytes that are not on their way yet."""
        return self.connection.backlog()

    def post(self, message: Prepared) -> None:
        """Send a prepared message."""
        self.connection.write(message.frame)

    def say(self, *packets: bytes) -> None:
        """Send packets of Socket.IO."""
        self.connection.write(b"".join([frame(b"4" + text) for text in packets]))

    def put_nowait(self, packet: Packet | None) -> None:
        """Send a packet of Engine.IO; None closes the connection, as it ends a stock writer."""
        self.connection.send(packet)

    async def put(self, packet: Packet | None) -> None:
        """The same, for python-engineio."""
        self.connection.send(packet)

    async def join(self) -> None:
        """Nothing ever waits in here."""

    def get_nowait(self) -> Any:
        """Nothing more for the poll that was under way when its client came here."""
        raise asyncio.QueueEmpty

    def task_done(self) -> None:
        """For the same poll."""


class Session(AsyncSocket):
    """An Engine.IO socket that has had its WebSocket from the start: it never had a queue."""

    def __init__(self, server: Any, sid: str) -> None:
        self.server = server
        self.sid = sid
        self.queue: Outbox | None = None
        self.last_ping: float | None = None
        self.connected = self.upgraded = True
        self.upgrading = self.closing = self.closed = False
        self.session: dict[str, Any] = {}
        self.on_text: OnText | None = None


class Dispatch(WebSocketDataQueue):
    """Where aiohttp's parser puts messages: hands each to its connection at once."""

    def __init__(self, connection: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(connection, 2**16, loop=loop)
        self._take = connection.message_received

    def feed_data(self, message: Any, size: int) -> None:
        self._take(message[0], message[1])


class Connection(asyncio.BufferedProtocol):
    """A client's WebSocket, taken over from aiohttp, and its Engine.IO socket."""

    __slots__ = (
        "_clogged_at",
        "_closing",
        "_controls",
        "_dispatch",
        "_drained",
        "_driver",
        "_frames",
        "_gone",
        "_holds",
        "_late_ping",
        "_parser",
        "_size",
        "_transport",
        "_unfinished",
        "_unfinished_since",
        "_waiting",
        "_waiting_size",
        "_whole",
        "clogged",
        "cuts",
        "groups",
        "on_text",
        "out",
        "probing",
        "receiving",
        "send_bytes",
        "socket",
    )

    def __init__(self, driver: "Driver", socket: AsyncSocket) -> None:
        self.socket = socket
        # Takes the text of a message where it can; None while the client is not let in.
        self.on_text: OnText | None = None
        # While a client moves here from long polling: the type of packet that must come next.
        self.probing: int | None = None
        self._driver = driver
        self._transport: asyncio.Transport | None = None
        self._dispatch = Dispatch(self, driver.loop)
        self._parser = WebSocketReader(
            # Its bound is the least that is too much.
            self._dispatch,
            driver.eio.max_http_buffer_size + 1,
            compress=False,
            decode_text=True,
        )
        self._frames = Frames()
        # What this turn of the loop has produced, and how many bytes that is.
        self.out: list[bytes] = []
        self._size = 0
        # The groups that it hears; never those of a connection that is clogged or closing.
        self.groups: tuple[Multicast, ...] = ()
        # Whether its client notices no close frame, but that the connection is cut.
        self.cuts = False
        # Whether something that was written is not on its way yet, and since when.
        self.clogged = False
        self._clogged_at = 0.0
        # Set while somebody waits for that.
        self._drained: asyncio.Future[None] | None = None
        # Set while somebody rests until the connection is gone, at most.
        self._gone: asyncio.Future[None] | None = None
        # The last ping that came meanwhile: the only one that has to be answered, as by RFC 6455,
        # section 5.5.3.
        self._late_ping: bytes | None = None
        # What was read of a message that is not whole, about, and since when; and what was taken
        # of the messages in what is being read.
        self._unfinished = self._whole = 0
        self._unfinished_since = 0.0
        # Packets that wait for python-engineio, their bytes, and the task that hands them over.
        self._waiting: deque[Packet] | None = None
        self._waiting_size = 0
        self.receiving: asyncio.Task[None] | None = None
        # Frames in what is being read that bring nobody a message.
        self._controls = 0
        # Why the client is not read from at the moment.
        self._holds: set[str] | None = None
        # Set once a close frame is out: cuts the connection when no answer comes.
        self._closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # Not for a clogged connection: it would overtake what waits.
        self.send_bytes = sender(transport)
        # What aiohttp has written may still wait; from now on every change is told.
        self.clogged = transport.get_write_buffer_size() > 0
        self._clogged_at = self._driver.loop.time()
        transport.set_write_buffer_limits(high=0)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._driver.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._driver.take(self, nbytes)

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        try:
            self._controls += self._frames.count(data)
        except BadFrame as bad:
            self._feed(data[: bad.at])
            self.close(WSCloseCode.PROTOCOL_ERROR)
            return
        self._feed(data)
        if self._controls:
            number, self._controls = self._controls, 0
            seconds = self._driver.count(self.socket, number)
            if seconds:
                self.hold("controls")
                self._driver.loop.call_later(seconds, self.release, "controls")

    def _feed(self, data: bytes) -> None:
        size = len(data)
        self._unfinished += size
        failed, _ = self._parser.feed_data(data)
        if self._whole:
            # What is not ASCII is more than its characters, but no more than what was read now.
            self._unfinished = max(0, min(size, self._unfinished - self._whole))
            self._whole = 0
            self._unfinished_since = 0.0
        if self._unfinished > LITTLE:
            self._unfinished_since = self._unfinished_since or self._driver.loop.time()
            self._driver.grew(size)
        if failed and self._closing is None:
            error = self._dispatch.exception()
            if isinstance(error, WebSocketError):
                self.close(error.code)
            else:
                log.error("a message could not be handled", exc_info=error)
                self.close(WSCloseCode.INTERNAL_ERROR)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.clogged = True
        self._clogged_at = self._driver.loop.time()
        self._leave_groups(clogged=True)

    def resume_writing(self) -> None:
        self.clogged = False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
        if self._late_ping is not None:
            ping, self._late_ping = self._late_ping, None
            self.write(frame(ping, WSMsgType.PONG))

    def connection_lost(self, error: Exception | None) -> None:
        self._leave_groups()
        self._transport = None
        del self._dispatch, self._parser  # They are in a cycle, and nothing more will be read.
        self.out.clear()
        self._size = 0
        self.resume_writing()
        if self._gone is not None:
            self._gone.set_result(None)
        if self._closing is not None:
            self._closing.cancel()
        self._driver.lost(self)

    def hold(self, why: str) -> None:
        """Read no more from the client, until everyone who asked for this has released it."""
        if self._holds is None:
            self._holds = set()
        self._holds.add(why)
        if self._transport is not None:
            self._transport.pause_reading()

    def release(self, why: str) -> None:
        """Take one `hold` back."""
        if self._holds is not None:
            self._holds.discard(why)
            if not self._holds and self._transport is not None:
                self._transport.resume_reading()

    def backlog(self) -> int:
        """Bytes that are not on their way yet."""
        if self._transport is None:
            return 0
        return self._size + self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Write whole frames with all else that this turn of the loop produces."""
        if self._transport is None or self._closing is not None:
            return
        for group in self.groups:
            group.hand_over(self)
        self.append(data)
        if self._size > MOST_JOINED:
            self.flush()

    def append(self, data: bytes) -> None:
        """Write after what this turn has produced already, but for what its groups have."""
        if not self.out:
            self._driver.flush_soon(self)
        self.out.append(data)
        self._size += len(data)

    def flush(self) -> None:
        """Write what was produced so far."""
        if not self.out:
            return
        data = self.out[0] if len(self.out) == 1 else b"".join(self.out)
        self.out.clear()
        self._size = 0
        if self.clogged:
            self.write_rest(data)
            return
        try:
            sent = self.send_bytes(data)
        except OSError:  # It would block, or fails again below, where it is seen to.
            sent = 0
        if sent != len(data):
            self.write_rest(data[sent:])

    def write_rest(self, data: bytes) -> None:
        """Let asyncio have what could not be sent at once."""
        if self._transport is not None:
            self._transport.write(data)
            self._driver.grew(len(data))

    def holding(self, address: str, waiting: int) -> Holding:
        """What is held for the client, which counts for that address; `waiting` bytes of its
        messages are held by the application."""
        unsent = self.backlog() if self.clogged else self._size
        # Clogged by what it does not read, it is also not read from.
        since = self._clogged_at if self.clogged else self._unfinished_since
        since = since or self._driver.loop.time()
        waiting += self._waiting_size
        return Holding(address, since, self.abort, unsent, self._unfinished, waiting)

    def writable(self) -> bool:
        """Whether everything that was written is on its way, and more would be."""
        return self._transport is not None and self._closing is None and not self.clogged

    def _leave_groups(self, *, clogged: bool = False) -> None:
        for group in self.groups:
            group.discard(self, clogged=clogged)

    def send(self, packet: Packet | None) -> None:
        """Send a packet of Engine.IO; None and CLOSE close the connection."""
        if packet is None:
            self.close(WSCloseCode.OK)
            return
        encoded = packet.encode()
        if isinstance(encoded, str):
            self.write(frame(encoded.encode()))
        else:
            self.write(frame(encoded, WSMsgType.BINARY))
        if packet.packet_type == CLOSE:
            self.close(WSCloseCode.OK)

    def close(self, code: int) -> None:
        """Say goodbye with a close code, and cut the connection when no answer comes."""
        if self._closing is not None or self._transport is None:
            return
        self.write(frame(struct.pack("!H", code), WSMsgType.CLOSE))
        self._leave_groups()
        self.flush()
        self._closing = self._driver.loop.call_later(self._driver.close_timeout, self.abort)

    def end(self) -> None:
        """Close the connection in the way after which the clients of all languages come back."""
        if not self.cuts:
            self.close(WSCloseCode.SERVICE_RESTART)
        elif self._closing is None and self._transport is not None:
            for group in self.groups:
                group.hand_over(self)
            self._leave_groups()
            self.flush()
            self._closing = self._driver.loop.call_later(self._driver.close_timeout, self.abort)
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection; what is not on its way is lost."""
        if self._transport is not None:
            self._transport.abort()

    def message_received(self, kind: WSMsgType, data: Any) -> None:
        """Take a message from the parser."""
        if kind is TEXT or kind is WSMsgType.BINARY:
            self._whole += len(data) + FRAMING
        elif kind is not WSMsgType.CLOSE:
            # May come amid a message that is not whole.
            self._unfinished -= len(data) + FRAMING
        if kind is TEXT and self._closing is None:
            if self.on_text is None or self.receiving is not None or not self.on_text(data):
                self._packet_received(data)
        elif kind is WSMsgType.CLOSE:
            self._close_received(data)
        elif self._closing is not None:
            return
        elif kind is WSMsgType.BINARY:
            self._packet_received(data)
        else:
            self._controls += 1
            if kind is WSMsgType.PING:
                self._pinged(data)

    def _pinged(self, data: bytes) -> None:
        if self._unread():
            self._late_ping = data
        else:
            self.write(frame(data, WSMsgType.PONG))

    def _close_received(self, code: int) -> None:
        if self._closing is None:
            self.write(frame(answer_to_close(code), WSMsgType.CLOSE))
            self._leave_groups()
            self.flush()
            # Nothing may follow it: RFC 6455, section 5.5.1.
            self._closing = self._driver.loop.call_later(self._driver.close_timeout, self.abort)
        if self._transport is not None:
            self._transport.close()

    def _packet_received(self, data: str | bytes) -> None:
        try:
            packet = TextPacket(encoded_packet=data)
        except ValueError:
            packet = None
        if packet is None or packet.packet_type > NOOP:
            self.close(WSCloseCode.UNSUPPORTED_DATA)
        elif self.probing is not None:
            self._driver.probed(self, packet)
        elif packet.packet_type in (MESSAGE, CLOSE):
            self._receive(packet)
        elif packet.packet_type != PONG or not self._driver.wheel.answered(self.socket):
            self._controls += 1

    def _receive(self, packet: Packet) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(packet)
        self._waiting_size += _size(packet)
        if self._too_many_wait():
            self.hold("waiting")
        if self.receiving is None:
            self.receiving = self._driver.spawn(self._receive_all())

    def receive_after(self, work: Coroutine[Any, Any, None]) -> None:
        """Receive the next message when something is done; nothing may be under way."""
        self._waiting = deque()
        self.receiving = self._driver.spawn(self._receive_all(work))

    async def _receive_all(self, first: Awaitable[None] | None = None) -> None:
        """Let python-engineio have the packets, one after the other, until none is left."""
        assert self._waiting is not None
        try:
            if first is not None:
                await self._try(first)
            while self._waiting and not self.socket.closing:
                await self._read_up()
                packet = self._waiting.popleft()
                self._waiting_size -= _size(packet)
                if not self._too_many_wait():
                    self.release("waiting")
                await self._try(self.socket.receive(packet))
        finally:
            self.receiving = self._waiting = None
            self._waiting_size = 0
        if self.socket.closed:
            self.close(WSCloseCode.OK)

    def _too_many_wait(self) -> bool:
        """Whether so much waits for python-engineio that nothing more is read."""
        assert self._waiting is not None
        return len(self._waiting) >= MOST_WAITING or self._waiting_size > MOST_UNREAD

    async def _try(self, work: Awaitable[None]) -> None:
        try:
            await work
        except UnknownPacketError:
            pass
        except Exception:
            if not self.socket.closed:
                log.exception("a packet could not be received")

    def held_for(self, why: str) -> bool:
        """Whether this is among the reasons for which the client is not read from."""
        return self._holds is not None and why in self._holds

    def _unread(self) -> bool:
        """Whether the client leaves so much unread that it may not ask for more."""
        return self.clogged and self.backlog() > MOST_UNREAD

    async def rest(self, seconds: float) -> None:
        """Wait for so long, but not for what is gone: nobody is kept from sending more then."""
        if self._transport is None:
            await asyncio.sleep(0)
            return
        self._gone = self._driver.loop.create_future()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._gone
        finally:
            self._gone = None

    async def _read_up(self) -> None:
        """Wait until the client has read what it was sent, where that is too much."""
        while self._unread():
            if self._drained is None:
                self._drained = self._driver.loop.create_future()
            await asyncio.shield(self._drained)


class Driver:
    """The WebSockets of one Engine.IO server."""

    def __init__(
        self,
        sio: socketio.AsyncServer,
        upgrade_timeout: float,
        close_timeout: float,
        control_rate: float,
        grew: Callable[[int], None],
    ) -> None:
        self.eio = sio.eio
        self._sio = sio
        self._connect_namespace: Any = None
        self.grew = grew
        self.close_timeout = close_timeout
        self._control_rate = control_rate
        self._upgrade_timeout = upgrade_timeout
        self.wheel = Wheel(self.eio, self._silent)
        self.connections: set[Connection] = set()
        self._on_connect: Any = None
        self._on_disconnect: Any = None
        self._handle_request: Any = None
        # The polls that are under way, by the protocol of their connection.
        self._polls: dict[Any, AsyncSocket] = {}
        # The HTTP servers whose lost connections are told.
        self._watched: WeakSet[Any] = WeakSet()
        self.unflushed: list[Connection] = []
        self._unflushed_groups: list[Multicast] = []
        # For all connections: what is read is taken at once. Else asyncio would make room for the
        # most that may come each time, which costs more than to read what has.
        self.read_buffer = memoryview(bytearray(READ_AT_ONCE))
        # Whether there will be a flush: when this turn of the loop is over, or when what is being
        # read has been taken.
        self._flushing = False
        # Keeps tasks alive until they are done.
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def put_in(self) -> None:
        """Take the places in python-engineio that this driver needs."""
        # A copy: the dictionary is that of all servers of the process.
        self.eio._async = {
            **self.eio._async,
            "websocket": self._websocket,
            "create_route": create_route,
        }
        self._connect_namespace = self._sio._handle_connect
        self._sio._handle_connect = self._connect
        self.eio.create_queue = partial(ByteQueue, self)
        self.eio.start_background_task = self.start_background_task
        self._on_connect = self.eio.handlers["connect"]
        self.eio.handlers["connect"] = self._connected
        self._on_disconnect = self.eio.handlers["disconnect"]
        self.eio.handlers["disconnect"] = self._disconnected
        self._handle_request = self.eio.handle_request
        self.eio.handle_request = self._request
        # A client's fault, such as a session of before a restart, is no error of the server's.
        # By its key alone: the message has the session in it, or what a client sent.
        self.eio._log_error_once = lambda message, key: log.info("a request was refused: %s", key)
        # Its task looks for lost clients one by one; here the wheel does.
        self.eio.start_service_task = False

    async def _connected(self, eio_sid: str, environ: dict[str, Any]) -> Any:
        # The OPEN that waits to be sent: python-engineio cuts the interval to whole seconds.
        queue = self.eio.sockets[eio_sid].queue
        opening = queue.get_nowait()
        queue.task_done()
        opening.data["pingInterval"] = self._ping_interval
        queue.put_nowait(opening)
        return await self._on_connect(eio_sid, environ)

    async def _connect(self, eio_sid: str, namespace: str | None, auth: Any) -> None:
        sio, name = self._sio, namespace or "/"
        served = (*sio.handlers, *sio.namespace_handlers, *sio.namespaces)
        if name in served or sio.namespaces == "*":
            await self._connect_namespace(eio_sid, namespace, auth)
        else:
            # An object, as clients look for its message; python-socketio sends a bare text.
            why = {"message": "Invalid namespace"}
            await sio._send_packet(eio_sid, sio.packet_class(CONNECT_ERROR, why, name))

    @property
    def _ping_interval(self) -> int:
        """What clients are told of it, in milliseconds."""
        seconds: float = self.eio.ping_interval + self.eio.ping_interval_grace_period
        return round(seconds * 1000)

    async def _disconnected(self, eio_sid: str, reason: str) -> None:
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None:
            socket.last_ping = None  # Who has not answered one would not be sent the CLOSE.
        await self._on_disconnect(eio_sid, reason)
        if socket is not None and reason == self.eio.reason.CLIENT_DISCONNECT:
            # Ends the long poll of a client that has left: some wait for that.
            socket.queue.put_nowait(Packet(NOOP) if not socket.upgraded else None)
        if socket is not None and not socket.upgraded:
            # It would be held, with all that it was not sent, until it is time for its next ping.
            # Who is sent away may come once more between two polls, for the reason.
            if reason == self.eio.reason.SERVER_DISCONNECT:
                self.loop.call_later(self.close_timeout, self.eio.sockets.pop, eio_sid, None)
            else:
                self.eio.sockets.pop(eio_sid, None)

    async def _request(self, request: web.Request) -> Any:
        if request.method == "OPTIONS":
            return await self._handle_request(request)
        request = with_plain_upgrade(request)
        if request.query.get("transport") not in self.eio.transports:
            return self._answer(request, "Invalid transport", 400)
        if request.method == "POST":
            return await self._post(request)
        if request.method != "GET":
            return self._answer(request, "A session is opened and polled by GET.", 400)
        options = ",".join(request.headers.getall("Connection", [])).lower().split(",")
        if request.headers.get("Upgrade") and "upgrade" not in map(str.strip, options):
            # For python-engineio it would be a poll, of a client that has none.
            return web.Response(status=400, text="Upgrade needs a Connection that says so, too.")
        socket = self.eio.sockets.get(request.query.get("sid"))
        if socket is None or not socket.connected:
            return await self._handle_request(request)
        if request.headers.get("Upgrade"):
            second = socket.upgraded or socket.upgrading
            return await (self._turn_away(request) if second else self._handle_request(request))
        if socket.upgraded or socket.upgrading or request.query["transport"] != "polling":
            return await self._handle_request(request)
        if socket.closed:
            return self._last_poll(request, socket)
        return await self._poll(request, socket)

    async def _poll(self, request: web.Request, socket: AsyncSocket) -> web.Response:
        """Have python-engineio answer a poll.

        A session ends with a poll that is broken off, or overlaps another: what the one would have
        been answered is lost, and the packets of two would be in no order.
        """
        queue, protocol = socket.queue, request.protocol
        if queue.polled:
            await socket.close(wait=False, reason=self.eio.reason.TRANSPORT_ERROR)
            return self._answer(request, "Another poll of the session is under way.", 400)
        self._watch(protocol)
        queue.polled, queue.room = True, MOST_POLLED
        self._polls[protocol] = socket
        try:
            response: web.Response = await self._handle_request(request)
        finally:
            queue.polled = False
            self._polls.pop(protocol, None)
        if socket.closed and not response.body:
            return self._ended(request)
        return response

    def _last_poll(self, request: web.Request, socket: AsyncSocket) -> web.Response:
        """Answer what still waited when a session ended."""
        self.eio.sockets.pop(socket.sid, None)
        packets = []
        while not socket.queue.empty():
            packets.append(socket.queue.get_nowait())
        payload: str = Payload([packet for packet in packets if packet]).encode()
        return self._answer(request, payload) if payload else self._ended(request)

    def _ended(self, request: web.Request) -> web.Response:
        """An error, after which the clients of all languages open a new session."""
        return self._answer(request, "The session has ended.", 400)

    def _watch(self, protocol: Any) -> None:
        """Hear of it when a connection of this HTTP server is lost: its handlers are not told."""
        http = protocol._manager
        if http is None or http in self._watched:
            return
        self._watched.add(http)
        lost = http.connection_lost

        def connection_lost(handler: Any, error: BaseException | None = None) -> None:
            lost(handler, error)
            socket = self._polls.pop(handler, None)
            if socket is not None and not socket.upgrading and not socket.upgraded:
                self.spawn(self.end(socket, self.eio.reason.TRANSPORT_CLOSE))

        http.connection_lost = connection_lost

    async def _turn_away(self, request: web.Request) -> web.StreamResponse:
        """Close a WebSocket of a session that has one."""
        second = web.WebSocketResponse(timeout=self.close_timeout, compress=False)
        await second.prepare(request)
        await second.close(
            code=WSCloseCode.POLICY_VIOLATION, message=b"a session has one WebSocket"
        )
        return second

    def _answer(self, request: web.Request, text: str, status: int = 200) -> web.Response:
        """A response of the driver's own, for whatever page has asked."""
        ours = self.eio.cors_allowed_origins == []
        environ = {} if ours else self.eio._async["translate_request"](request)
        return web.Response(status=status, text=text, headers=self.eio._cors_headers(environ))

    async def _post(self, request: web.Request) -> web.Response:
        """Take what a client of long polling posts.

        Not python-engineio: it takes as much of a body as has come so far for the whole, and what a
        client does wrong for errors of the server.
        """
        socket = self.eio.sockets.get(request.query.get("sid"))
        if socket is None or socket.closed or socket.upgraded or not socket.connected:
            return self._answer(request, "There is no such session.", 400)
        try:
            async with posts_of(socket):
                await self._take_post(socket, await self._read(request.content))
        except (EngineIOError, ValueError):
            await self.end(socket, self.eio.reason.TRANSPORT_ERROR)
            return self._answer(request, "This is no payload of Engine.IO.", 400)
        return self._answer(request, "ok")

    async def _take_post(self, socket: AsyncSocket, text: str) -> None:
        for number, packet in enumerate(decode_payload(text), 1):
            if number % TURN == 0:
                await asyncio.sleep(0)
            if socket.closed:
                break
            if packet.packet_type != PONG:
                await socket.receive(packet)
            elif not self.wheel.answered(socket):
                await self.pace(socket)

    async def _read(self, content: StreamReader) -> str:
        """The text of a body. Raises `EngineIOError` and `ValueError` for what is none."""
        data = bytearray()
        while chunk := await content.readany():
            data += chunk
            if len(data) > self.eio.max_http_buffer_size:
                raise ContentTooLongError
        return data.decode()

    def _websocket(self, handler: Any, server: Any) -> Any:
        # The handler is bound to the Engine.IO socket that the request is for.
        return partial(self.upgrade, handler.__self__)

    def start_background_task(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        """As in python-engineio, but pings take no task, and no task is forgotten."""
        if getattr(target, "__func__", None) is AsyncSocket._send_ping:
            self.wheel.schedule(target.__self__)
            return None
        return self.spawn(target(*args, **kwargs))

    async def upgrade(self, socket: AsyncSocket, environ: dict[str, Any]) -> web.StreamResponse:
        """Make a request the WebSocket of an Engine.IO socket."""
        request = environ["aiohttp.request"]
        accept = handshake(request.headers)
        if accept is None or request.transport is None:
            if not socket.connected:
                await socket.close(wait=False, abort=True)
            return web.Response(status=400, text="This is not a WebSocket of version 13.")
        connection = Connection(self, socket)
        connection.cuts = ignores_closes(request.headers)
        self.connections.add(connection)
        early = take_over(request, connection)
        connection.write(SWITCHING % accept)
        # The request and what hangs on it may go; what is left in `environ` is text.
        for name in ("aiohttp.request", "wsgi.input", "wsgi.errors"):
            environ.pop(name, None)
        if socket.connected:
            socket.upgrading = True
            connection.probing = PING
            self.loop.call_later(self._upgrade_timeout, self._give_up, connection)
        else:
            socket.connected = True
            self._adopt(connection)
        if early:
            connection.data_received(early)
        return web.Response()  # Nobody sees it: aiohttp has lost its connection.

    def open(
        self,
        sid: str,
        transport: asyncio.Transport,
        accept: bytes,
        on_text: OnText,
        early: bytes,
        *,
        cuts: bool,
    ) -> None:
        """Begin a session on a connection whose handshake has been read and is to be answered.

        It is told to nobody, as whoever calls this knows. `early` is what came after the handshake,
        `cuts` what `ignores_closes` says of it.
        """
        socket = self.eio.sockets[sid] = Session(self.eio, sid)
        connection = Connection(self, socket)
        connection.cuts = cuts
        self.connections.add(connection)
        connection.on_text = socket.on_text = on_text
        socket.queue = Outbox(connection)
        transport.write(SWITCHING % accept + frame(self._opening % sid.encode()))
        transport.set_protocol(connection)
        connection.connection_made(transport)
        self.wheel.schedule(socket)
        if early:
            connection.data_received(early)

    @cached_property
    def _opening(self) -> bytes:
        """The OPEN of a WebSocket, but for the id of its session."""
        eio = self.eio
        said = {
            "sid": "%b",
            "upgrades": [],
            "pingTimeout": int(eio.ping_timeout * 1000),
            "pingInterval": self._ping_interval,
            "maxPayload": eio.max_http_buffer_size,
        }
        encoded: str = Packet(OPEN, said).encode()
        return encoded.encode()

    def probed(self, connection: Connection, packet: Packet) -> None:
        """Take a packet of a client that moves here from long polling."""
        socket = connection.socket
        if connection.probing == PING and packet.packet_type == PING and packet.data == "probe":
            connection.probing = UPGRADE
            connection.write(PONG_PROBE_FRAME)
            socket.queue.put_nowait(Packet(NOOP))  # Ends the poll that is under way.
        elif connection.probing == UPGRADE and packet.packet_type == UPGRADE and not socket.closed:
            connection.probing = None
            socket.upgrading = False
            self._adopt(connection)
        else:
            connection.close(WSCloseCode.PROTOCOL_ERROR)

    def _give_up(self, connection: Connection) -> None:
        """Let a client stay with long polling that does not come over."""
        if connection.probing is not None:
            connection.abort()

    def _adopt(self, connection: Connection) -> None:
        """From now on what is sent to the socket goes out here, after what waited for a poll."""
        socket = connection.socket
        socket.upgraded = True
        queue, socket.queue = socket.queue, Outbox(connection)
        queue.polled = False
        while not queue.empty():
            packet = queue.get_nowait()
            if packet is None or packet.packet_type != NOOP:
                connection.send(packet)
        queue.put_nowait(Packet(NOOP))  # Ends a poll that is still under way.
        connection.on_text = getattr(socket, "on_text", None)

    def listen(self, socket: AsyncSocket, on_text: OnText) -> None:
        """Let `on_text` have the text messages of a client, those for which it returns true."""
        socket.on_text = on_text
        connection = self.connection_of(socket)
        if connection is not None:
            connection.on_text = on_text

    def receive_after(self, socket: AsyncSocket, work: Coroutine[Any, Any, None]) -> None:
        """Do something for the client of a WebSocket before the next message of it is received."""
        connection = self.connection_of(socket)
        assert connection is not None
        connection.receive_after(work)

    def connection_of(self, socket: AsyncSocket) -> Connection | None:
        """The WebSocket of a client; None while it has only long polling."""
        return socket.queue.connection if isinstance(socket.queue, Outbox) else None

    def hold(self, socket: AsyncSocket, on: bool) -> None:
        """Read no more from a client's WebSocket, or read on; elsewhere nothing happens."""
        connection = self.connection_of(socket)
        if connection is not None and on:
            connection.hold(APPLICATION)
        elif connection is not None:
            connection.release(APPLICATION)

    async def end(self, socket: AsyncSocket, reason: str) -> None:
        """End a session in the way after which the clients of all languages come back.

        After Engine.IO's CLOSE many stay away, and after a usual close code some wait for pings.
        """
        await socket.close(wait=False, abort=True, reason=reason)
        connection = self.connection_of(socket)
        if connection is not None:
            connection.end()
        else:
            socket.queue.put_nowait(None)  # For the poll that is under way.

    def holdings(self, known: Callable[[str], tuple[str, int]]) -> Iterator[Holding]:
        """What is held for each client.

        `known(session)` is whom that counts for, and how many bytes of its messages the application
        holds.
        """
        for connection in self.connections:
            yield connection.holding(*known(connection.socket.sid))
        for session, socket in self.eio.sockets.items():
            queue = socket.queue
            if isinstance(queue, ByteQueue) and not socket.closed:
                address, waiting = known(session)
                since = queue.since if queue.size else self.loop.time()
                drop = partial(self.drop, socket)
                yield Holding(address, since, drop, queue.size, waiting=waiting)

    def drop(self, socket: AsyncSocket) -> None:
        """Cut a client off at once; what waits for it is lost."""
        connection = self.connection_of(socket)
        if connection is not None:
            connection.abort()
        self.spawn(self.time_out(socket))

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        socket = connection.socket
        if connection.probing is not None:
            socket.upgrading = False  # It stays with long polling.
        else:
            self.spawn(self._leave(connection))

    async def _leave(self, connection: Connection) -> None:
        """Close the socket of a connection that is gone, after what was received from it."""
        socket = connection.socket
        if connection.receiving is not None:
            await asyncio.wait([connection.receiving])
        await socket.close(wait=False, abort=True, reason=self.eio.reason.TRANSPORT_CLOSE)
        self.eio.sockets.pop(socket.sid, None)
        socket.on_text = None

    def count(self, socket: AsyncSocket, number: int = 1) -> float:
        """Count what a client sends that is no event of an application, but pings, CONNECTs and the
        like; for how many seconds it should be read no more."""
        bucket: Bucket | None = getattr(socket, "controls", None)
        if bucket is None:
            bucket = socket.controls = control_bucket(self._control_rate)
        return bucket.count(number, self.loop.time())

    async def pace(self, socket: AsyncSocket, number: int = 1) -> None:
        """`count` so many, and wait until the client should be read again."""
        seconds = self.count(socket, number)
        connection = self.connection_of(socket)
        if seconds and connection is not None:
            await connection.rest(seconds)
        elif seconds:
            await asyncio.sleep(seconds)

    def _silent(self, socket: AsyncSocket) -> None:
        connection = self.connection_of(socket)
        if connection is not None and connection.held_for(APPLICATION) and not socket.closed:
            self.wheel.wait_on(socket)  # Its answer may be among what was not read.
        else:
            self.spawn(self.time_out(socket))

    async def time_out(self, socket: AsyncSocket) -> None:
        """Close the connection of a client that did not answer a ping."""
        await self.end(socket, self.eio.reason.PING_TIMEOUT)
        self.eio.sockets.pop(socket.sid, None)

    def take(self, connection: Connection, size: int) -> None:
        """Let a connection take what was read, and flush what has come of it at once.

        Unless something else waits for the end of this turn: then it may leave in the same write.
        """
        data = bytes(self.read_buffer[:size])
        if self._flushing:
            connection.data_received(data)
            return
        self._flushing = True
        try:
            connection.data_received(data)
        finally:
            self._flush()

    def flush_soon(self, connection: Connection) -> None:
        """Flush a connection when this turn of the loop is over, if not before."""
        self._see_to_flush()
        self.unflushed.append(connection)

    def flush_group_soon(self, group: Multicast) -> None:
        """Flush a group when this turn of the loop is over, if not before."""
        self._see_to_flush()
        self._unflushed_groups.append(group)

    def _see_to_flush(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        # The groups first: to a member that has more to be written they only add.
        groups, self._unflushed_groups = self._unflushed_groups, []
        for group in groups:
            group.flush()
        unflushed, self.unflushed = self.unflushed, []
        for connection in unflushed:
            connection.flush()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in a task that is kept until it is done."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self, patience: float) -> None:
        """Ping no more; wait for all connections to go, and after `patience` seconds cut them."""
        self.wheel.stop()
        end = self.loop.time() + patience
        while self.connections and self.loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()


class PlainSocket(web.WebSocketResponse):
    """A WebSocket that stays with aiohttp, and is read as those of the driver are."""

    def __init__(self, *, max_message: int, control_rate: float, **options: Any) -> None:
        """`max_message` is in bytes, `control_rate` that of `install`; the rest is aiohttp's."""
        # Its bound is the least that is too much.
        super().__init__(max_msg_size=max_message + 1, compress=False, autoping=False, **options)
        self._frames = Frames()
        self._controls = control_bucket(control_rate)
        # What was read and is not taken yet, and whether that has to wait.
        self._late = b""
        self._waits = False

    def count(self, number: int = 1) -> float:
        """Count what is no command; for how many seconds nothing should be read."""
        return self._controls.count(number, asyncio.get_running_loop().time())

    async def answer_close(self) -> None:
        """Answer the client's close frame with its code, and close the connection."""
        await self.send_frame(answer_to_close(self.close_code or 0), WSMsgType.CLOSE)
        if self._http.transport is not None:
            self._http.transport.close()

    def _post_start(
        self, request: web.BaseRequest, protocol: str | None, writer: WebSocketWriter
    ) -> None:
        http = request.protocol
        early, http._message_tail = http._message_tail, b""
        super()._post_start(request, protocol, writer)
        self._http = http
        # Kept until the end of the connection, while aiohttp lets go of it before that.
        self._feed = http._payload_parser.feed_data
        self.feed_eof = http._payload_parser.feed_eof
        http._payload_parser, http._upgraded = self, True
        if early:
            self.feed_data(early)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take what was read, in the place of aiohttp's parser; whether that was the last."""
        if self._waits:
            self._late += data
            return False, b""
        return self._take(data)

    def _take(self, data: bytes) -> tuple[bool, bytes]:
        """Take as much as is read from a connection of the driver at once, the rest in its turn."""
        data, self._late = data[:READ_AT_ONCE], data[READ_AT_ONCE:]
        try:
            fragments = self._frames.count(data)
        except BadFrame as bad:
            self._feed(data[: bad.at])
            assert self._reader is not None
            self._reader.set_exception(WebSocketError(WSCloseCode.PROTOCOL_ERROR, str(bad)))
            return True, b""
        ended: tuple[bool, bytes] = self._feed(data)
        seconds = self.count(fragments) if fragments else 0
        if seconds or self._late:
            self._waits = True
            self._http._pause_reading_for_buffer()
            asyncio.get_running_loop().call_later(seconds, self._go_on)
        return ended

    def _go_on(self) -> None:
        self._waits = False
        if self._late and self._take(self._late)[0]:
            self._http.close()
        elif not self._waits:
            self._http._resume_reading_for_buffer()


def install(
    sio: socketio.AsyncServer,
    *,
    upgrade_timeout: float = 5.0,
    close_timeout: float = 1.0,
    control_rate: float = 5.0,
    grew: Callable[[int], None] | None = None,
) -> Driver:
    """Put the driver into a server with `async_mode="aiohttp"`, before its first client.

    A client has `upgrade_timeout` seconds to move to a WebSocket from long polling, in which it
    hears nothing, and `close_timeout` seconds to answer a close frame before it is cut off.
    Of what it sends beside messages, such as pings of its own, `control_rate` a second are read in
    the long run, and five times as many at once; 0 for no limit. `grew` is told of bytes that have
    to be held for a client, as in `Budget.grew`; `Driver.holdings` measures them.

    Handlers find no `aiohttp.request` in the `environ` of a WebSocket: REMOTE_ADDR has the address.
    """
    driver = Driver(sio, upgrade_timeout, close_timeout, control_rate, grew or ignore)
    driver.put_in()
    return driver


def create_route(app: web.Application, eio: Any, path: str) -> None:
    """Serve an Engine.IO server at a path, and refuse there the methods that it has not."""
    app.router.add_route("*", path, eio.handle_request)


def posts_of(socket: AsyncSocket) -> asyncio.Lock:
    """Held while a POST of a session is read and taken: the next one is only read after it."""
    lock: asyncio.Lock | None = getattr(socket, "posts", None)
    if lock is None:
        lock = socket.posts = asyncio.Lock()
    return lock


def upgrade_in(data: bytes) -> tuple[RawRequestMessage, bytes] | None:
    """The head of a request in the first bytes of a connection, and what follows it.

    None where they are not a whole request with an upgrade, as aiohttp reads it.
    """
    loop = asyncio.get_running_loop()
    try:
        requests, upgrades, rest = HttpRequestParser(BaseProtocol(loop), loop, 2**16).feed_data(
            data
        )
    except HttpProcessingError:
        return None
    if not upgrades or len(requests) != 1 or not requests[0][1].is_eof():
        return None
    return requests[0][0], rest


def handshake(headers: Mapping[str, str]) -> bytes | None:
    """The answer to a client's key, None when a request is not a WebSocket's."""
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        nonce = base64.b64decode(key, validate=True)
    except ValueError:  # Of binascii, too.
        return None
    if len(nonce) != 16 or headers.get("Sec-WebSocket-Version") != VERSION:
        return None
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest())


def asks_for_websocket(headers: Headers, version: HttpVersion) -> bool:
    """Whether a request offers to go on as a WebSocket, alone or among others.

    One of HTTP/1.0 may not be heard: RFC 9110, section 7.8.
    """
    offered = ",".join(headers.getall("Upgrade", [])).lower().split(",")
    return version >= HttpVersion11 and "websocket" in map(str.strip, offered)


def with_plain_upgrade(request: web.Request) -> web.Request:
    """A request as it is, but with an `Upgrade` to a WebSocket alone, or to nothing.

    Raises `web.HTTPUpgradeRequired` for a version of WebSockets that is not known here: RFC 6455,
    section 4.4.
    """
    if "Upgrade" not in request.headers:
        return request
    headers = CIMultiDict(request.headers)
    if not asks_for_websocket(headers, request.version):
        del headers["Upgrade"]
    elif headers.get("Sec-WebSocket-Version", VERSION) != VERSION:
        known = {"Sec-WebSocket-Version": VERSION, "Upgrade": "websocket", "Connection": "upgrade"}
        raise web.HTTPUpgradeRequired(headers=known)
    else:
        headers["Upgrade"] = "websocket"
    return request if headers == request.headers else request.clone(headers=headers)


def ignores_closes(headers: Mapping[str, str]) -> bool:
    """Whether a client notices no close frame: that of Java, on most versions of OkHttp."""
    return headers.get("User-Agent", "").startswith("okhttp/")


def take_over(request: web.BaseRequest, protocol: asyncio.BufferedProtocol) -> bytes:
    """Take a request's connection from aiohttp, for good, and let `protocol` have it.

    Returns what the client has sent already, after the request.
    """
    handler, transport = request.protocol, request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    early: bytes = handler._message_tail
    handler.transport = None  # Else it would close the connection that it loses.
    handler.connection_lost(None)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    transport.resume_reading()
    return early


def has_more(socket: web.WebSocketResponse) -> bool:
    """Whether whole messages of a WebSocket of aiohttp's wait to be taken."""
    return bool(socket._reader is not None and socket._reader._buffer)


def sender(transport: asyncio.Transport) -> Callable[[bytes], int]:
    """What sends bytes while none wait in the transport, and tells how many it could send."""
    if isinstance(transport, _SelectorSocketTransport):
        # Straight to the kernel; may raise `OSError`.
        send: Callable[[bytes], int] = transport.get_extra_info("socket")._sock.send
        return send

    def write(data: bytes) -> int:
        transport.write(data)
        return len(data)

    return write


def _size(packet: Any) -> int:
    data = getattr(packet, "data", None)
    return len(data) if isinstance(data, str | bytes) else 16


def ignore(size: int) -> None:
    """Hear how much more is held, and do nothing about it."""
