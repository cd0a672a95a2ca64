"""The Socket.IO server: python-socketio, with what our clients are promised and it does not do.

Private names of python-socketio are used in this file alone, and guarded by a test.

* Text events of WebSockets are handed on at once, undecoded, for the one who decodes them best.
* A command without an acknowledgement is answered by the event `reply`.
* A client hears of its rooms right after it has connected, not before, and where nothing has to be
  waited for in the same turn of the loop.
* What is no event of a client that was let in is read slowly, and few CONNECTs of one session at
  all: nothing else counts them.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

import socketio
from aiohttp import web
from engineio.async_socket import AsyncSocket
from msgspec import Struct
from socketio.exceptions import ConnectionRefusedError as Refused
from socketio.packet import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT

from server.access.rate_limits import WEIGHED, weight
from server.budget import Shared
from server.contract.messages import Closing, Frame, Problem, encode
from server.errors import Invalid, TooMany
from server.transport.connection import Connection
from server.transport.driver import install
from server.transport.frames import Prepared
from server.transport.packets import SharedPacket
from server.transport.socketio_packets import Decode, Wire, packet_class

NAMESPACE = "/"
MALFORMED = "-"
"""A packet of no type: what an empty one is taken for."""
ID_DIGITS = 16
"""The most digits that the id of an acknowledgement may have to be taken the fast way."""

MOST_CONNECTS = 10
"""CONNECTs of a session, whether they were refused or not, after which it is cut."""

NO_PACKET = "this is no packet of Socket.IO"
ONE_NAMESPACE = "the only namespace is /: connect to an address without a path"
CONNECTED = "this session is connected already"

Admit = Callable[[], Coroutine[Any, Any, None] | None]
"""Sends a client what it is to hear first. Returns what has to be done for that before the next
packet is received from it, where something has to be waited for."""


class Origin(Struct, frozen=True):
    """Where a request comes from, and the bearer token that it brings, if it does."""

    address: str
    token: str = ""


def quiet(name: str) -> logging.Logger:
    """A logger for a library that calls every packet news."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.ERROR)
    return logger


class Clients(socketio.AsyncManager):
    """Who is connected. No client has a room of its own in here: nothing is sent to such rooms, and
    python-socketio looks through all of them for each client that leaves."""

    def basic_enter_room(
        self, sid: str, namespace: str, room: str | None, eio_sid: str | None = None
    ) -> None:
        if room is None:
            super().basic_enter_room(sid, namespace, room, eio_sid)


class SocketHandler(Protocol):
    """What a `SocketServer` does with its clients. `session` is one of Engine.IO; `sid` is a client
    that is connected in it."""

    def origin_of(self, request: web.Request) -> Origin:
        """Where a request comes from."""

    def on_open(self, session: str, origin: Origin) -> None:
        """A session has begun."""

    def on_close(self, session: str) -> None:
        """A session has ended."""

    def on_connect(self, sid: str, socket: AsyncSocket, auth: Any) -> Admit:
        """A client wants to come in. Raises `Refused` where it may not; else what is returned is
        called once the client was told that it is connected."""

    def on_disconnect(self, sid: str, reason: str) -> None:
        """A client is gone; its session may stay."""

    def on_json(self, sid: str, id: bytes | None, text: str) -> bool:
        """An event of a WebSocket has come, as JSON; false when it is to be decoded and come to
        `on_event` instead. `id` is in digits, as it came, so that it goes back without a detour;
        None where no acknowledgement is wanted."""

    def on_event(self, sid: str, id: bytes | None, name: str, args: list[Any]) -> None:
        """Any other event has come."""

    def on_large(self, sid: str, size: int) -> None:
        """An event of so many characters is about to come, which costs more to read than to carry
        out."""

    async def when_room(self, sid: str) -> None:
        """Wait before the next packet is read from a client of long polling."""


class SocketServer(socketio.AsyncServer):
    """A Socket.IO server of one namespace."""

    handler: SocketHandler

    def __init__(
        self,
        *,
        decode: Decode,
        upgrade_timeout: float = 5.0,
        close_timeout: float = 1.0,
        control_rate: float = 5.0,
        grew: Callable[[int], None] | None = None,
        **options: Any,
    ) -> None:
        """`decode` reads the JSON of a packet; the timeouts, the rate and `grew` are those of
        `transport.install`, the options those of `socketio.AsyncServer`."""
        self._wire = Wire(decode)
        super().__init__(
            async_mode="aiohttp",
            serializer=packet_class(self._wire),
            client_manager=Clients(),
            namespaces=[NAMESPACE],
            async_handlers=False,
            http_compression=False,
            # Given by hand, as the libraries' own have a handler each that writes everything twice.
            logger=quiet("server.socketio"),
            engineio_logger=quiet("server.engineio"),
            **options,
        )
        self.driver = install(
            self,
            upgrade_timeout=upgrade_timeout,
            close_timeout=close_timeout,
            control_rate=control_rate,
            grew=grew,
        )

    def serve(self, handler: SocketHandler) -> None:
        """Have `handler` serve all clients. To be called once, before the first one comes."""
        self.handler = handler
        self.on("disconnect", handler.on_disconnect)

    def websocket(self, socket: AsyncSocket) -> Connection | None:
        """The WebSocket of a client; None while it has only long polling."""
        return self.driver.connection_of(socket)

    def prepared(self, frame: Frame) -> Prepared:
        """An event as a message to any number of clients."""
        if frame.framed is None:
            frame.framed = Prepared(b'2["%b",%b]' % (frame.name.encode(), frame.body))
        message: Prepared = frame.framed
        return message

    def share(self, socket: AsyncSocket, name: str, head: bytes, body: Shared) -> None:
        """Send an event of which the end is held once for many clients."""
        socket.queue.put_nowait(SharedPacket(b'2["%b",%b' % (name.encode(), head), body, b"]"))

    def answer(self, socket: AsyncSocket, answers: list[tuple[bytes | None, bytes]]) -> None:
        """Acknowledge events by their ids, or reply where no acknowledgement is wanted."""
        if not socket.closed:
            socket.queue.say(
                *[
                    b"".join(
                        (b'2["reply",', answer, b"]")
                        if id is None
                        else (b"3", id, b"[", answer, b"]")
                    )
                    for id, answer in answers
                ]
            )

    def hold(self, socket: AsyncSocket, on: bool) -> None:
        """Read no more from a client's WebSocket, or read on."""
        self.driver.hold(socket, on)

    def drop(self, socket: AsyncSocket) -> None:
        """Cut a client off that does not read, without a word that it would not read either."""
        self.driver.drop(socket)

    async def end(self, socket: AsyncSocket) -> None:
        """End a client's session in the way after which it comes back by itself."""
        await self.driver.end(socket, self.reason.SERVER_DISCONNECT)

    async def end_session(self, session: str) -> None:
        """`end` a session of Engine.IO, if it is still there."""
        socket = self.eio.sockets.get(session)
        if socket is not None:
            await self.end(socket)

    async def end_all(self) -> None:
        """`end` every session, and wait for that, for half a second at most."""
        sockets = list(self.eio.sockets.values())
        await asyncio.gather(*(self.end(socket) for socket in sockets))
        await self.driver.stop(patience=0.5)

    async def dismiss(self, socket: AsyncSocket, code: str, why: str) -> None:
        """End the session of a client that does not keep to the protocol: told so where it was let
        in, and by Engine.IO's CLOSE, after which it has no reason to come back by itself."""
        if self.manager.sid_from_eio_sid(socket.sid, NAMESPACE) is not None:
            socket.queue.post(self.prepared(Frame(Closing.name, encode(Closing(code, why)))))
        await socket.close(wait=False, reason=self.reason.SERVER_DISCONNECT)

    def open(
        self,
        transport: asyncio.Transport,
        address: str,
        accept: bytes,
        early: bytes,
        *,
        cuts: bool,
    ) -> None:
        """Begin a session on a connection that is to be a WebSocket, as `Driver.open` does."""
        session = self.eio.generate_id()
        self.handler.on_open(session, Origin(address))
        self.environ[session] = {}
        on_text = partial(self._hello_received, session)
        self.driver.open(session, transport, accept, on_text, early, cuts=cuts)

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        self.handler.on_open(eio_sid, self.handler.origin_of(environ["aiohttp.request"]))
        await super()._handle_eio_connect(eio_sid, environ)
        self.driver.listen(self.eio.sockets[eio_sid], partial(self._hello_received, eio_sid))

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        try:
            await super()._handle_eio_disconnect(eio_sid, reason)
        finally:
            self.handler.on_close(eio_sid)

    def _connect(
        self, session: str, namespace: str | None, auth: Any
    ) -> Coroutine[Any, Any, None] | None:
        """Let a client in, or tell it why not. Returns what `Admit` does.

        Not python-socketio, which waits after each step: a client that left meanwhile would stay.
        """
        socket = self.eio.sockets.get(session)
        if socket is None or socket.closing:
            return None
        socket.connects = connects(socket) + 1
        if socket.connects > MOST_CONNECTS:
            many = "too many CONNECTs of one session"
            self.driver.spawn(self.dismiss(socket, TooMany.code, many))
            return None
        known = self.manager.sid_from_eio_sid(session, NAMESPACE)
        if known is not None or namespace not in (None, NAMESPACE):
            message = ONE_NAMESPACE if namespace not in (None, NAMESPACE) else CONNECTED
            problem = Problem(Invalid.code, message, "namespace")
            self._refuse(socket, {"message": message, "data": problem}, namespace)
            return None
        sid = self.eio.generate_id()
        try:
            admit = self.handler.on_connect(sid, socket, auth or None)
        except Refused as refused:
            self._refuse(socket, refused.error_args, NAMESPACE)
            return None
        self.manager.basic_enter_room(sid, NAMESPACE, None, session)
        self.environ[session] = {}  # Its headers are of no more use.
        socket.queue.say(b'0{"sid":"%b"}' % sid.encode())
        self.driver.listen(socket, partial(self._text_received, sid))
        return admit()

    def _refuse(self, socket: AsyncSocket, why: Any, namespace: str | None) -> None:
        packet = self.packet_class(CONNECT_ERROR, why, namespace)
        socket.queue.say(packet.encode().encode())

    def _hello_received(self, session: str, text: str) -> bool:
        """Take the CONNECT of a WebSocket; false leaves the message to python-socketio."""
        if text != "40" and not text.startswith("40{"):
            return False
        if connects(self.eio.sockets[session]):
            return False  # It takes its time.
        auth = self._wire.loads(text[2:]) if len(text) > 2 else None
        admission = self._connect(session, None, auth)
        if admission is not None:
            self.driver.receive_after(self.eio.sockets[session], admission)
        return True

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        socket = self.eio.sockets.get(eio_sid)
        if socket is None:
            return
        cost = weight(len(data))
        if not isinstance(data, str):
            await self.driver.pace(socket, 1 + cost)
            return  # The attachment of a packet that has been answered.
        try:
            packet = self.packet_class(encoded_packet=data or MALFORMED)
        except ValueError:
            await self.dismiss(socket, Invalid.code, NO_PACKET)
            return
        kind = packet.packet_type
        sid = self.manager.sid_from_eio_sid(eio_sid, packet.namespace or NAMESPACE)
        if kind != EVENT or sid is None:
            await self.driver.pace(socket, 1 + cost)
        elif cost:
            self.handler.on_large(sid, len(data))
        if kind == CONNECT:
            admission = self._connect(eio_sid, packet.namespace, packet.data)
            if admission is not None:
                await admission
        elif kind == DISCONNECT:
            await self._handle_disconnect(eio_sid, packet.namespace, self.reason.CLIENT_DISCONNECT)
            self.driver.listen(socket, partial(self._hello_received, eio_sid))
        elif kind == EVENT:
            await self._handle_event(eio_sid, packet.namespace, packet.id, packet.data)
        elif kind != ACK:  # There is nothing that could be acknowledged.
            await self.dismiss(socket, Invalid.code, NO_PACKET)

    def _text_received(self, sid: str, text: str) -> bool:
        """Take an event of a WebSocket; false leaves the message to python-socketio."""
        if not text.startswith("42"):
            return False
        if len(text) >= WEIGHED:
            self.handler.on_large(sid, len(text))
        start = text.find("[", 2, 3 + ID_DIGITS)
        digits = text[2:start].encode()
        plain = start > 0 and (not digits or digits.isdigit())
        if plain and self.handler.on_json(sid, digits or None, text[start:]):
            return True
        try:
            packet = self.packet_class(encoded_packet=text[1:])
        except ValueError:
            return False
        if packet.namespace not in (None, NAMESPACE):
            return False
        self.handler.on_event(sid, in_digits(packet.id), packet.data[0], packet.data[1:])
        return True

    async def _handle_event_internal(
        self, server: Any, sid: str, eio_sid: str, data: list[Any], namespace: str, id: int | None
    ) -> None:
        # Not through the handlers of python-socketio: a client could call "disconnect" by name.
        self.handler.on_event(sid, in_digits(id), data[0], data[1:])
        await self.handler.when_room(sid)


def in_digits(id: int | None) -> bytes | None:
    """The id of an acknowledgement as it goes over the wire."""
    return None if id is None else str(id).encode()


def connects(socket: AsyncSocket) -> int:
    """How many CONNECTs have come from a session."""
    number: int = getattr(socket, "connects", 0)
    return number
