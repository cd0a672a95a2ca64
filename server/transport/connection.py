"""A client's WebSocket, taken over from aiohttp, and its Engine.IO socket."""

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketError, WebSocketReader
from engineio.async_socket import AsyncSocket
from engineio.exceptions import UnknownPacketError
from engineio.packet import CLOSE, MESSAGE, NOOP, PONG, Packet

from server.budget import LITTLE, Holding
from server.transport.backlog import Backlog
from server.transport.flusher import Flusher
from server.transport.frames import TEXT, Prepared, frame, frame_head
from server.transport.handshake import sender
from server.transport.heartbeat import Heartbeat
from server.transport.inbound_frames import BadFrame, Frames, answer_to_close
from server.transport.multicast import MOST_JOINED, Multicast
from server.transport.packets import SharedPacket, TextPacket, packet_size

log = logging.getLogger(__name__)
MOST_WAITING = 64
"""Packets of a client that may wait for python-engineio before the client is read no more."""

APPLICATION = "application"
"""The reason for which an application has a client not read."""

MOST_UNREAD = 2**16
"""Bytes that a client may leave unread before nothing more is done that it would have to read."""

PIECES = 4
"""Pieces of what waits that a client is handed before it is the turn of others."""

FRAMING = 6
"""Bytes of a frame from a client beside its payload, at least."""

OnText = Callable[[str], bool]


class Host(Protocol):
    """What a connection needs of the driver that it belongs to."""

    eio: Any
    """The server of python-engineio."""
    heartbeat: Heartbeat
    flusher: Flusher
    close_timeout: float
    grew: Callable[[int], None]
    """Is told of so many more bytes that are held for a client."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that all runs in."""
        raise NotImplementedError

    def count(self, socket: AsyncSocket, number: int = 1) -> float:
        """Count what a client sends that is no command; for how many seconds to read no more."""
        raise NotImplementedError

    def probed(self, connection: "Connection", packet: Packet) -> None:
        """Take a packet of a client that moves here from long polling."""

    def lost(self, connection: "Connection") -> None:
        """A connection is gone."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in a task that is kept until it is done."""
        raise NotImplementedError


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
        "_backlog",
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
        "_leaving",
        "_parser",
        "_resting",
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

    def __init__(self, driver: Host, socket: AsyncSocket) -> None:
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
        # What waits behind that, from the first that others share on.
        self._backlog: Backlog | None = None
        # Whether the connection is to be closed after it.
        self._leaving = False
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
        # Set once it was read no more for these, until when.
        self._resting: asyncio.TimerHandle | None = None
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
        return self._driver.flusher.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._driver.flusher.take(self, nbytes)

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
                self._resting = self._driver.loop.call_later(seconds, self.release, "controls")

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
        if not self.clogged:
            self.clogged = True
            self._clogged_at = self._driver.loop.time()
        self._leave_groups(clogged=True)

    def resume_writing(self) -> None:
        if self._backlog is not None:
            self._hand_over()
            return
        self.clogged = False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
        if self._late_ping is not None:
            ping, self._late_ping = self._late_ping, None
            self.write(frame(ping, WSMsgType.PONG))

    def connection_lost(self, error: Exception | None) -> None:
        self._leave_groups()
        self._transport = self._backlog = None
        del self._dispatch, self._parser  # They are in a cycle, and nothing more will be read.
        self.out.clear()
        self._size = 0
        self.resume_writing()
        if self._gone is not None and not self._gone.done():  # Its time may be up as well.
            self._gone.set_result(None)
        for timer in (self._closing, self._resting):
            if timer is not None:
                timer.cancel()
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
        waiting = self._backlog.size if self._backlog is not None else 0
        return self._size + self._transport.get_write_buffer_size() + waiting

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
            self._driver.flusher.flush_soon(self)
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
        """Let what could not be sent at once wait, in asyncio unless something does before it."""
        if self._transport is not None:
            if self._backlog is not None:
                self._backlog.add(data)
            else:
                self._transport.write(data)
            self._driver.grew(len(data))

    def _share(self, packet: SharedPacket) -> None:
        """Write a message of which the most part is not copied."""
        self.write(frame_head(len(packet)) + packet.head)
        self.flush()
        if self._transport is None or self._closing is not None:
            return
        self.pause_writing()
        if self._backlog is None:
            self._backlog = Backlog()
        self._backlog.share(packet.body)
        self._backlog.add(packet.tail)
        if not self._transport.get_write_buffer_size():
            self._hand_over()

    def _hand_over(self) -> None:
        """Send what waits, until the socket takes no more or it is the turn of others."""
        for _ in range(PIECES):
            transport, backlog = self._transport, self._backlog
            if backlog is None or transport is None or transport.is_closing():
                return
            if transport.get_write_buffer_size():
                return  # It goes on when that is on its way.
            self._hand_over_piece(transport, backlog)
            if not backlog.size:
                self._all_handed_over(transport)
                return
        self._driver.loop.call_soon(self._hand_over)

    def _hand_over_piece(self, transport: asyncio.Transport, backlog: Backlog) -> None:
        with backlog.next_piece() as piece:
            try:
                sent = self.send_bytes(piece)
            except OSError:  # As in `flush`.
                sent = 0
            # Only so much that asyncio tells when there is room for more: it may make a copy.
            rest = bytes(piece[sent : sent + LITTLE])
        backlog.advance(sent + len(rest))
        if rest:
            transport.write(rest)

    def _all_handed_over(self, transport: asyncio.Transport) -> None:
        self._backlog = None
        if self._leaving:
            transport.close()
        elif not transport.get_write_buffer_size():
            self.resume_writing()

    def _close_soon(self) -> None:
        """Close the connection when all that was written is on its way."""
        if self._backlog is not None:
            self._leaving = True
        elif self._transport is not None:
            self._transport.close()

    def holding(self, address: str, waiting: int) -> Holding:
        """What is held for the client, which counts for that address; `waiting` bytes of its
        messages are held by the application."""
        unsent, backlog = self._size, self._backlog
        if self.clogged and self._transport is not None:
            unsent += self._transport.get_write_buffer_size()
        if backlog is not None:
            unsent += backlog.own
        shared = backlog.bodies if backlog is not None else ()
        # Clogged by what it does not read, it is also not read from.
        since = self._clogged_at if self.clogged else self._unfinished_since
        since = since or self._driver.loop.time()
        waiting += self._waiting_size
        return Holding(address, since, self.abort, unsent, self._unfinished, waiting, shared)

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
        if isinstance(packet, SharedPacket):
            self._share(packet)
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
            self._close_soon()

    def abort(self) -> None:
        """Cut the connection; what is not on its way is lost."""
        self._backlog = None
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
        self._close_soon()

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
        elif packet.packet_type != PONG or not self._driver.heartbeat.answered(self.socket):
            self._controls += 1

    def _receive(self, packet: Packet) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(packet)
        self._waiting_size += packet_size(packet)
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
                self._waiting_size -= packet_size(packet)
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
