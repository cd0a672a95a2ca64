"""The Socket.IO server: python-socketio, with what our clients are promised and it does not do.

Every private name of python-socketio and python-engineio that the project leans on is used in
this file, and `tests/test_transport.py` fails when a new version of them changes one.

* A command without an acknowledgement is answered by the event `reply`.
* A client hears of its rooms right after it has connected, not before.
* A packet that cannot be decoded is an event too, and is answered.
* Events are queued for a client at once and in order, and what is queued is counted in bytes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import engineio
import socketio
from engineio import packet as engineio_packet
from socketio import packet as socketio_packet

from server.protocol import Frame, encode

NAMESPACE = "/"
# A POST with more packets than this is dropped whole; `MAX_FRAME` bounds it already.
engineio.payload.Payload.max_decode_packets = 100_000

Decode = Callable[[str], Any]
Respond = Callable[[Any], None]
OnEvent = Callable[[str, str, list[Any], Respond], Awaitable[None]]
OnReady = Callable[[str], Awaitable[None]]


class Undecodable:
    """Stands for the data of an event that could not be decoded; `error` is why."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Wire:
    """The JSON of the wire, with the interface of the module `json`, as python-socketio wants."""

    def __init__(self, decode: Decode) -> None:
        """`decode` turns text into a value, or raises."""
        self._decode = decode

    def dumps(self, value: Any, **_: Any) -> str:
        """Encode structs and plain values."""
        return encode(value).decode()

    def loads(self, text: str) -> Any:
        """Decode a packet's data; `Undecodable` where that cannot be done."""
        try:
            return self._decode(text)
        except Exception as error:
            return Undecodable(error)


def packet_class(wire: Wire) -> type[socketio_packet.Packet]:
    """A packet that encodes and decodes with `wire`, and whose event is never malformed."""

    class Packet(socketio_packet.Packet):
        json = wire
        data: Any
        packet_type: int

        def decode(self, encoded_packet: str) -> int:
            attachments: int = super().decode(encoded_packet)
            if self.packet_type == socketio_packet.BINARY_EVENT:
                # No field is binary, so its attachments are not waited for: the check refuses the
                # field. Waiting, a client could announce ten digits of them and send for ever.
                self.packet_type, attachments = socketio_packet.EVENT, 0
                try:
                    self.data = _binary_as_bytes(self.data)
                except RecursionError as error:
                    self.data = Undecodable(error)
            elif self.packet_type == socketio_packet.BINARY_ACK:
                self.packet_type, attachments = socketio_packet.ACK, 0
            if self.packet_type == socketio_packet.EVENT:
                if isinstance(self.data, Undecodable):
                    self.data = ["", self.data]
                elif not (isinstance(self.data, list) and self.data and _is_name(self.data[0])):
                    wanted = ValueError("an event must be an array that begins with its name")
                    self.data = ["", Undecodable(wanted)]
            return attachments

    return Packet


def _binary_as_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_binary_as_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("_placeholder"):
        return b""
    return {key: _binary_as_bytes(item) for key, item in value.items()}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


class ByteQueue(asyncio.Queue[Any]):
    """A client's queue of Engine.IO packets that knows how many bytes wait in it."""

    size = 0

    def _put(self, item: Any) -> None:
        self.size += _size(item)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self.size -= _size(item)
        return item


class EngineServer(engineio.AsyncServer):
    """The Engine.IO server whose clients have a `ByteQueue`, and whose log is the service's."""

    def create_queue(self, *args: Any, **kwargs: Any) -> ByteQueue:
        return ByteQueue(*args, **kwargs)

    def _log_error_once(self, message: str, message_key: str) -> None:
        # A client's fault, such as a session of before a restart: no error of the server's.
        self.logger.info(message)


class SocketServer(socketio.AsyncServer):
    """A Socket.IO server for one namespace whose events all go to `on_event`.

    `on_event(sid, name, args, respond)` is awaited before the client's next packet is read, so a
    client's commands are answered in order. `on_ready(sid)` is awaited after the client was told
    that it is connected. Both must be set before the first client comes.
    """

    on_event: OnEvent
    on_ready: OnReady

    def __init__(self, *, decode: Decode, **options: Any) -> None:
        """`decode` reads the JSON of a packet; the options are those of `socketio.AsyncServer`."""
        super().__init__(
            async_mode="aiohttp",
            serializer=packet_class(Wire(decode)),
            namespaces=[NAMESPACE],
            async_handlers=False,
            http_compression=False,
            # Given by hand, as the libraries' own have a handler each that writes everything twice.
            logger=quiet("server.socketio"),
            engineio_logger=quiet("server.engineio"),
            **options,
        )

    def send_frame(self, sid: str, frame: Frame) -> None:
        """Queue an event for a client; one that is gone is passed over."""
        if frame.framed is None:
            text = f'{socketio_packet.EVENT}["{frame.name}",{frame.body.decode()}]'
            frame.framed = engineio_packet.Packet(engineio_packet.MESSAGE, text)
        self._queue(self._socket(sid), frame.framed)

    def backlog(self, sid: str) -> int:
        """Bytes that are queued for a client."""
        socket = self._socket(sid)
        return socket.queue.size if socket else 0

    async def cut(self, sid: str) -> None:
        """Close a client's connection as a broken network would: clients come back after it."""
        socket = self._socket(sid)
        if socket is not None:
            await self._close(socket)

    async def cut_all(self) -> None:
        """Close every connection, as `cut` does."""
        sockets = list(self.eio.sockets.values())
        await asyncio.gather(*(self._close(socket) for socket in sockets))

    async def _close(self, socket: Any) -> None:
        # The packet of Engine.IO, not that of Socket.IO: after the latter browsers stay away.
        await socket.close(wait=False, reason=self.reason.SERVER_DISCONNECT)
        # Ends the writer of a WebSocket, which then closes it.
        socket.queue.put_nowait(None)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        known = self.manager.sid_from_eio_sid(eio_sid, NAMESPACE)
        await super()._handle_connect(eio_sid, namespace, data)
        sid = self.manager.sid_from_eio_sid(eio_sid, NAMESPACE)
        if known is None and sid is not None and self.manager.is_connected(sid, NAMESPACE):
            await self.on_ready(sid)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None and reason == self.reason.CLIENT_DISCONNECT:
            # Lets go of the long poll of a client that has left: some wait for its end.
            socket.queue.put_nowait(None)

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        if isinstance(data, str):  # Else the attachment of a packet that has been answered.
            await super()._handle_eio_message(eio_sid, data)

    async def _handle_event_internal(
        self, server: Any, sid: str, eio_sid: str, data: list[Any], namespace: str, id: int | None
    ) -> None:
        # Not through the handlers of python-socketio: a client could call "disconnect" by name.
        def respond(answer: Any) -> None:
            if id is None:
                packet = self.packet_class(socketio_packet.EVENT, data=["reply", answer])
            else:
                packet = self.packet_class(socketio_packet.ACK, data=[answer], id=id)
            message = engineio_packet.Packet(engineio_packet.MESSAGE, packet.encode())
            self._queue(self.eio.sockets.get(eio_sid), message)

        await self.on_event(sid, data[0], data[1:], respond)

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    def _socket(self, sid: str) -> Any:
        return self.eio.sockets.get(self.manager.eio_sid_from_sid(sid, NAMESPACE))

    def _queue(self, socket: Any, packet: Any) -> None:
        if socket is not None and not socket.closed:
            socket.queue.put_nowait(packet)


def quiet(name: str) -> logging.Logger:
    """A logger for a library that calls every packet news."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.ERROR)
    return logger


def _size(packet: Any) -> int:
    data = getattr(packet, "data", None)
    return len(data) if isinstance(data, str | bytes) else 16
