"""Accepts connections, and answers Socket.IO's WebSocket handshakes in the same turn of the loop.

Most clients send a whole WebSocket handshake in their first packet. For each one aiohttp would make
tasks, a request and a response, only to discard them at once. Anything else goes to aiohttp as it
came: other requests, a handshake in two packets, and one that has to be refused.
"""

import asyncio
from functools import lru_cache, partial
from urllib.parse import parse_qs

from aiohttp import web
from aiohttp.http import RawRequestMessage

from server.doors.origin_guard import Guard
from server.transport.acceptor import Acceptor
from server.transport.flusher import READ_AT_ONCE
from server.transport.handshake import asks_for_websocket, handshake, ignores_closes, upgrade_in
from server.transport.http_connections import Connections, HttpConnection, peer
from server.transport.socketio_server import SocketServer

BEGINNING = b"GET /socket.io/?"
END = b"\r\n\r\n"


class FastHandshake:
    """Makes the protocol of each connection that is accepted."""

    def __init__(
        self, guard: Guard, connections: Connections, sockets: SocketServer, http: web.Server
    ) -> None:
        """`http` serves the connections that speak HTTP."""
        self.connections = connections
        self.http = http
        self.read_buffer = memoryview(bytearray(READ_AT_ONCE))
        self._guard = guard
        self._sockets = sockets
        self._acceptor: Acceptor | None = None
        # Whether handshakes are answered here.
        self._answers = "websocket" in sockets.eio.transports

    async def listen(self, host: str, port: int) -> None:
        """Accept connections. Raises `OSError` when the port is taken."""
        self._acceptor = Acceptor(partial(ProtocolSniffer, self))
        await self._acceptor.open(host, port)

    @property
    def name(self) -> tuple[str, int]:
        """The host and the port where it listens."""
        assert self._acceptor is not None
        return self._acceptor.name

    def close(self) -> None:
        """Accept no more; what arrives on open connections goes to aiohttp."""
        self._answers = False
        if self._acceptor is not None:
            self._acceptor.close()

    def opens(self, transport: asyncio.Transport, data: bytes) -> bool:
        """Answer a handshake; false where `data` is none, or has to be refused."""
        if not self._answers or not data.startswith(BEGINNING) or END not in data:
            return False
        found = upgrade_in(data)
        if found is None or not is_for_session(found[0]):
            return False
        headers, early = found[0].headers, found[1]
        accept = handshake(headers)
        if accept is None:
            return False
        address = self._guard.address(headers, peer(transport))
        if not self._guard.lets_in(headers, address):
            return False
        self.connections.leave(transport)
        cuts = ignores_closes(headers)
        self._sockets.open(transport, address, accept, early, cuts=cuts)
        return True


class ProtocolSniffer(asyncio.BufferedProtocol):
    """A connection whose first packet has not arrived."""

    __slots__ = ("_fast_handshake", "_transport")

    def __init__(self, handshake: FastHandshake) -> None:
        self._fast_handshake = handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._fast_handshake.connections.enter(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._fast_handshake.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._fast_handshake.read_buffer[:nbytes])
        if not self._fast_handshake.opens(self._transport, data):
            handler = self._fast_handshake.http()
            connection = HttpConnection(
                handler,
                self._transport,
                self._fast_handshake.read_buffer,
                self._fast_handshake.connections.budget,
            )
            self._transport.set_protocol(connection)
            handler.connection_made(self._transport)
            connection.received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._fast_handshake.connections.leave(self._transport)


def is_for_session(head: RawRequestMessage) -> bool:
    """Whether an upgrade request asks for a new session of Engine.IO on a WebSocket."""
    asks = asks_for_websocket(head.headers, head.version)
    return asks and "Expect" not in head.headers and begins_session(head.path)


@lru_cache(64)
def begins_session(path: str) -> bool:
    """Whether python-engineio would begin a session for this path, without further checks."""
    query = parse_qs(path.partition("?")[2])
    wanted = {"EIO": ["4"], "transport": ["websocket"]}
    return {**query, **wanted} == query and query.keys().isdisjoint(("sid", "j"))
