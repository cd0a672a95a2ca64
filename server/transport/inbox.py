"""What a client sends over its WebSocket: read, taken at once where it can be, or in its turn."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketError, WebSocketReader
from engineio.async_socket import AsyncSocket
from engineio.exceptions import UnknownPacketError
from engineio.packet import CLOSE, MESSAGE, NOOP, PONG, Packet

from server.budget import LITTLE
from server.transport.frames import TEXT
from server.transport.heartbeat import Heartbeat
from server.transport.inbound_frames import SHORT, BadFrame, Frames
from server.transport.packets import TextPacket, packet_size

log = logging.getLogger(__name__)
MOST_WAITING = 64
"""Packets of a client that may wait for python-engineio before the client is read no more."""

MOST_WAITING_BYTES = 2**16
"""The same in bytes."""

WHOLE_TEXT = 0x81
"""The first byte of a frame that is a whole text."""

FRAMING = 6
"""Bytes of a frame from a client beside its payload, at least."""

OnText = Callable[[str], bool]


class Host(Protocol):
    """What an inbox needs of the driver that it belongs to."""

    eio: Any
    """The server of python-engineio."""
    heartbeat: Heartbeat
    grew: Callable[[int], None]
    """Is told of so many more bytes that are held for a client."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that all runs in."""
        raise NotImplementedError

    def count(self, socket: AsyncSocket, number: int = 1) -> float:
        """Count what a client sends that is no command; for how many seconds to read no more."""
        raise NotImplementedError

    def probed(self, connection: Any, packet: Packet) -> None:
        """Take a packet of a client that moves here from long polling."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in a task that is kept until it is done."""
        raise NotImplementedError


class Writer(Protocol):
    """The connection of an inbox, which writes what comes of the messages in it."""

    probing: int | None
    """While its client moves here from long polling: the type of packet that must come next."""
    closing: asyncio.TimerHandle | None
    """Set once nothing more may be written."""

    def close(self, code: int) -> None:
        """Say goodbye with a close code."""

    def close_received(self, code: int) -> None:
        """Answer a close frame, which had a code unless that is 0."""

    def pinged(self, data: bytes) -> None:
        """Answer a ping frame."""

    async def read_up(self) -> None:
        """Wait until the client has read what it was sent, where that is too much."""


class Dispatch(WebSocketDataQueue):
    """Where aiohttp's parser puts messages: hands each to the inbox at once."""

    def __init__(self, inbox: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(inbox, 2**16, loop=loop)
        self._take = inbox.message_received

    def feed_data(self, message: Any, size: int) -> None:
        self._take(message[0], message[1])


class Inbox:
    """The messages of one client."""

    __slots__ = (
        "_connection",
        "_controls",
        "_dispatch",
        "_frames",
        "_holds",
        "_host",
        "_parser",
        "_resting",
        "_socket",
        "_transport",
        "_waiting",
        "_whole",
        "on_text",
        "receiving",
        "unfinished",
        "unfinished_since",
        "waiting_size",
    )

    def __init__(self, host: Host, connection: Writer, socket: AsyncSocket) -> None:
        self._host = host
        self._connection = connection
        self._socket = socket
        # Takes the text of a message where it can; None while the client is not let in.
        self.on_text: OnText | None = None
        self._transport: asyncio.Transport | None = None
        self._dispatch = Dispatch(self, host.loop)
        self._parser = WebSocketReader(
            # Its bound is the least that is too much.
            self._dispatch,
            host.eio.max_http_buffer_size + 1,
            compress=False,
            decode_text=True,
        )
        self._frames = Frames()
        # What was read of a message that is not whole, about, and since when; and what was taken
        # of the messages in what is being read.
        self.unfinished = self._whole = 0
        self.unfinished_since = 0.0
        # Packets that wait for python-engineio, their bytes, and the task that hands them over.
        self._waiting: deque[Packet] | None = None
        self.waiting_size = 0
        self.receiving: asyncio.Task[None] | None = None
        # Frames in what is being read that bring nobody a message.
        self._controls = 0
        # Set once it was read no more for these, until when.
        self._resting: asyncio.TimerHandle | None = None
        # Why the client is not read from at the moment.
        self._holds: set[str] | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        """The connection is there."""
        self._transport = transport

    def end(self) -> None:
        """The connection is gone."""
        self._transport = None
        del self._dispatch, self._parser  # They are in a cycle, and nothing more will be read.
        if self._resting is not None:
            self._resting.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        frames = self._frames
        if (
            len(data) > 1
            and data[0] == WHOLE_TEXT
            and SHORT[data[1]] == len(data)
            and not (frames.left or frames.head)
        ):  # A command, and nothing else: nearly every read is. It needs no counting.
            failed, _ = self._parser.feed_data(data)
            self.unfinished = self._whole = 0
            self.unfinished_since = 0.0
            if failed:
                self._failed()
        else:
            try:
                self._controls += frames.count(data)
            except BadFrame as bad:
                self._feed(data[: bad.at])
                self._connection.close(WSCloseCode.PROTOCOL_ERROR)
                return
            self._feed(data)
        if self._controls:
            self._pace()

    def _pace(self) -> None:
        """Count what brings nobody a message, and read no more for a while where it is too much."""
        number, self._controls = self._controls, 0
        seconds = self._host.count(self._socket, number)
        if seconds:
            self.hold("controls")
            self._resting = self._host.loop.call_later(seconds, self.release, "controls")

    def _feed(self, data: bytes) -> None:
        size = len(data)
        self.unfinished += size
        failed, _ = self._parser.feed_data(data)
        if self._whole:
            # What is not ASCII is more than its characters, but no more than what was read now.
            self.unfinished = max(0, min(size, self.unfinished - self._whole))
            self._whole = 0
            self.unfinished_since = 0.0
        if self.unfinished > LITTLE:
            self.unfinished_since = self.unfinished_since or self._host.loop.time()
            self._host.grew(size)
        if failed:
            self._failed()

    def _failed(self) -> None:
        if self._connection.closing is None:
            error = self._dispatch.exception()
            if isinstance(error, WebSocketError):
                self._connection.close(error.code)
            else:
                log.error("a message could not be handled", exc_info=error)
                self._connection.close(WSCloseCode.INTERNAL_ERROR)

    def message_received(self, kind: WSMsgType, data: Any) -> None:
        """Take a message from the parser."""
        if kind is TEXT:
            self._whole += len(data) + FRAMING
            if self._connection.closing is None and (
                self.on_text is None or self.receiving is not None or not self.on_text(data)
            ):
                self._packet_received(data)
        elif kind is WSMsgType.CLOSE:
            self._connection.close_received(data)
        elif kind is WSMsgType.BINARY:
            self._whole += len(data) + FRAMING
            if self._connection.closing is None:
                self._packet_received(data)
        else:
            # May come amid a message that is not whole.
            self.unfinished -= len(data) + FRAMING
            if self._connection.closing is None:
                self._controls += 1
                if kind is WSMsgType.PING:
                    self._connection.pinged(data)

    def _packet_received(self, data: str | bytes) -> None:
        try:
            packet = TextPacket(encoded_packet=data)
        except ValueError:
            packet = None
        if packet is None or packet.packet_type > NOOP:
            self._connection.close(WSCloseCode.UNSUPPORTED_DATA)
        elif self._connection.probing is not None:
            self._host.probed(self._connection, packet)
        elif packet.packet_type in (MESSAGE, CLOSE):
            self._receive(packet)
        elif packet.packet_type != PONG or not self._host.heartbeat.answered(self._socket):
            self._controls += 1

    def _receive(self, packet: Packet) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(packet)
        self.waiting_size += packet_size(packet)
        if self._too_many_wait():
            self.hold("waiting")
        if self.receiving is None:
            self.receiving = self._host.spawn(self._receive_all())

    def receive_after(self, work: Coroutine[Any, Any, None]) -> None:
        """Receive the next message when something is done; nothing may be under way."""
        self._waiting = deque()
        self.receiving = self._host.spawn(self._receive_all(work))

    async def _receive_all(self, first: Awaitable[None] | None = None) -> None:
        """Let python-engineio have the packets, one after the other, until none is left."""
        assert self._waiting is not None
        try:
            if first is not None:
                await self._try(first)
            while self._waiting and not self._socket.closing:
                await self._connection.read_up()
                packet = self._waiting.popleft()
                self.waiting_size -= packet_size(packet)
                if not self._too_many_wait():
                    self.release("waiting")
                await self._try(self._socket.receive(packet))
        finally:
            self.receiving = self._waiting = None
            self.waiting_size = 0
        if self._socket.closed:
            self._connection.close(WSCloseCode.OK)

    def _too_many_wait(self) -> bool:
        """Whether so much waits for python-engineio that nothing more is read."""
        assert self._waiting is not None
        return len(self._waiting) >= MOST_WAITING or self.waiting_size > MOST_WAITING_BYTES

    async def _try(self, work: Awaitable[None]) -> None:
        try:
            await work
        except UnknownPacketError:
            pass
        except Exception:
            if not self._socket.closed:
                log.exception("a packet could not be received")

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

    def held_for(self, why: str) -> bool:
        """Whether this is among the reasons for which the client is not read from."""
        return self._holds is not None and why in self._holds
