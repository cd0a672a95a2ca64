"""A client's WebSocket, taken over from aiohttp, and its Engine.IO socket."""

import asyncio
import struct
from contextlib import suppress
from typing import Protocol

from aiohttp import WSCloseCode, WSMsgType
from engineio.async_socket import AsyncSocket
from engineio.packet import CLOSE, Packet

from server.budget import LITTLE, Holding
from server.transport import inbox
from server.transport.backlog import Backlog
from server.transport.flusher import Flusher
from server.transport.frames import frame, frame_head
from server.transport.handshake import sender
from server.transport.inbound_frames import answer_to_close
from server.transport.inbox import Inbox
from server.transport.multicast import MOST_JOINED, Multicast
from server.transport.packets import SharedPacket

APPLICATION = "application"
"""The reason for which an application has a client not read."""

MOST_UNREAD = 2**16
"""Bytes that a client may leave unread before nothing more is done that it would have to read."""

PIECES = 4
"""Pieces of what waits that a client is handed before it is the turn of others."""


class Host(inbox.Host, Protocol):
    """What a connection needs of the driver that it belongs to."""

    flusher: Flusher
    close_timeout: float

    def lost(self, connection: "Connection") -> None:
        """A connection is gone."""


class Connection(asyncio.BufferedProtocol):
    """A client's WebSocket, taken over from aiohttp, and its Engine.IO socket."""

    __slots__ = (
        "_backlog",
        "_clogged_at",
        "_drained",
        "_driver",
        "_flusher",
        "_gone",
        "_late_ping",
        "_leaving",
        "_size",
        "_transport",
        "clogged",
        "closing",
        "cuts",
        "groups",
        "inbox",
        "out",
        "probing",
        "send_bytes",
        "socket",
    )

    def __init__(self, driver: Host, socket: AsyncSocket) -> None:
        self.socket = socket
        # While a client moves here from long polling: the type of packet that must come next.
        self.probing: int | None = None
        self._driver = driver
        self._flusher = driver.flusher
        self._transport: asyncio.Transport | None = None
        self.inbox = Inbox(driver, self, socket)
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
        # Set once a close frame is out: cuts the connection when no answer comes.
        self.closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.inbox.begin(transport)
        # Not for a clogged connection: it would overtake what waits.
        self.send_bytes = sender(transport)
        # What aiohttp has written may still wait; from now on every change is told.
        self.clogged = transport.get_write_buffer_size() > 0
        self._clogged_at = self._driver.loop.time()
        transport.set_write_buffer_limits(high=0)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._flusher.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._flusher.take(self.inbox, nbytes)

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
        self.inbox.end()
        self.out.clear()
        self._size = 0
        self.resume_writing()
        if self._gone is not None and not self._gone.done():  # Its time may be up as well.
            self._gone.set_result(None)
        if self.closing is not None:
            self.closing.cancel()
        self._driver.lost(self)

    def backlog(self) -> int:
        """Bytes that are not on their way yet."""
        if self._transport is None:
            return 0
        size = self._size + self._transport.get_write_buffer_size()
        return size if self._backlog is None else size + self._backlog.size

    def write(self, data: bytes) -> None:
        """Write whole frames with all else that this turn of the loop produces."""
        if self._transport is None or self.closing is not None:
            return
        for group in self.groups:
            group.hand_over(self)
        self.append(data)
        if self._size > MOST_JOINED:
            self.flush()

    def append(self, data: bytes) -> None:
        """Write after what this turn has produced already, but for what its groups have."""
        if not self.out:
            self._flusher.flush_soon(self)
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
        if self._transport is None or self.closing is not None:
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
        since = self._clogged_at if self.clogged else self.inbox.unfinished_since
        since = since or self._driver.loop.time()
        waiting += self.inbox.waiting_size
        return Holding(address, since, self.abort, unsent, self.inbox.unfinished, waiting, shared)

    def writable(self) -> bool:
        """Whether everything that was written is on its way, and more would be."""
        return self._transport is not None and self.closing is None and not self.clogged

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
        if self.closing is not None or self._transport is None:
            return
        self.write(frame(struct.pack("!H", code), WSMsgType.CLOSE))
        self._leave_groups()
        self.flush()
        self.closing = self._driver.loop.call_later(self._driver.close_timeout, self.abort)

    def end(self) -> None:
        """Close the connection in the way after which the clients of all languages come back."""
        if not self.cuts:
            self.close(WSCloseCode.SERVICE_RESTART)
        elif self.closing is None and self._transport is not None:
            for group in self.groups:
                group.hand_over(self)
            self._leave_groups()
            self.flush()
            self.closing = self._driver.loop.call_later(self._driver.close_timeout, self.abort)
            self._close_soon()

    def abort(self) -> None:
        """Cut the connection; what is not on its way is lost."""
        self._backlog = None
        if self._transport is not None:
            self._transport.abort()

    def pinged(self, data: bytes) -> None:
        """Answer a ping frame, once the client has read what it was sent."""
        if self._unread():
            self._late_ping = data
        else:
            self.write(frame(data, WSMsgType.PONG))

    def close_received(self, code: int) -> None:
        """Answer a close frame, which had a code unless that is 0."""
        if self.closing is None:
            self.write(frame(answer_to_close(code), WSMsgType.CLOSE))
            self._leave_groups()
            self.flush()
            # Nothing may follow it: RFC 6455, section 5.5.1.
            self.closing = self._driver.loop.call_later(self._driver.close_timeout, self.abort)
        self._close_soon()

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

    async def read_up(self) -> None:
        """Wait until the client has read what it was sent, where that is too much."""
        while self._unread():
            if self._drained is None:
                self._drained = self._driver.loop.create_future()
            await asyncio.shield(self._drained)
