"""How a session comes to its WebSocket: from the start, or from long polling."""

from typing import Any, Protocol

from aiohttp import WSCloseCode, web
from engineio.async_socket import AsyncSocket
from engineio.packet import NOOP, PING, UPGRADE, Packet

from server.transport import connection
from server.transport.connection import Connection
from server.transport.frames import PONG_PROBE_FRAME
from server.transport.handshake import SWITCHING, handshake, ignores_closes, take_over
from server.transport.outbox import Outbox


class Host(connection.Host, Protocol):
    """What upgrades need of the driver that they belong to."""

    connections: set[Connection]


class Upgrades:
    """Makes requests WebSockets, and moves sessions to them."""

    def __init__(self, host: Host, timeout: float) -> None:
        """A client has `timeout` seconds to move, in which it hears nothing."""
        self._host = host
        self._upgrade_timeout = timeout

    async def upgrade(self, socket: AsyncSocket, environ: dict[str, Any]) -> web.StreamResponse:
        """Make a request the WebSocket of an Engine.IO socket."""
        request = environ["aiohttp.request"]
        accept = handshake(request.headers)
        if accept is None or request.transport is None:
            if not socket.connected:
                await socket.close(wait=False, abort=True)
            return web.Response(status=400, text="This is not a WebSocket of version 13.")
        connection = Connection(self._host, socket)
        connection.cuts = ignores_closes(request.headers)
        self._host.connections.add(connection)
        early = take_over(request, connection)
        connection.write(SWITCHING % accept)
        # The request and what hangs on it may go; what is left in `environ` is text.
        for name in ("aiohttp.request", "wsgi.input", "wsgi.errors"):
            environ.pop(name, None)
        if socket.connected:
            socket.upgrading = True
            connection.probing = PING
            self._host.loop.call_later(self._upgrade_timeout, self._give_up, connection)
        else:
            socket.connected = True
            self._adopt(connection)
        if early:
            connection.inbox.data_received(early)
        return web.Response()  # Nobody sees it: aiohttp has lost its connection.

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
        connection.inbox.on_text = getattr(socket, "on_text", None)

    async def turn_away(self, request: web.Request) -> web.StreamResponse:
        """Close a WebSocket of a session that has one."""
        second = web.WebSocketResponse(timeout=self._host.close_timeout, compress=False)
        await second.prepare(request)
        await second.close(
            code=WSCloseCode.POLICY_VIOLATION, message=b"a session has one WebSocket"
        )
        return second
