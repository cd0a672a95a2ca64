"""An Engine.IO WebSocket driver on aiohttp, made for fan-out: `install(sio)` puts it into a server.

python-engineio serves long polling and whatever is rare. The socket of a client that speaks over a
WebSocket is taken from aiohttp, unless `Driver.open` has it before aiohttp: no task, no request and
no headers stay for it. Its frames are read by aiohttp's own parser and dispatched at once, and what
one turn of the event loop produces for it leaves in one write. Nothing is compressed, so that one
frame serves all clients.

Private names of aiohttp and python-engineio are used in this folder alone;
`tests/transport/test_transport.py` fails when a new version of them changes one.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from functools import cached_property, partial
from typing import Any

import socketio
from aiohttp import web
from engineio.async_socket import AsyncSocket
from engineio.packet import NOOP, OPEN, Packet
from socketio.packet import CONNECT_ERROR

from server.access.rate_limits import TokenBucket, control_bucket
from server.budget import Holding
from server.transport.byte_queue import ByteQueue
from server.transport.connection import APPLICATION, Connection
from server.transport.flusher import Flusher
from server.transport.frames import frame
from server.transport.handshake import (
    SWITCHING,
    with_plain_upgrade,
)
from server.transport.heartbeat import Heartbeat
from server.transport.inbox import OnText
from server.transport.outbox import Outbox, Session
from server.transport.plain_socket import ignore
from server.transport.polling import Polling, make_response, posts_of
from server.transport.upgrades import Upgrades

log = logging.getLogger(__name__)


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
        self._upgrades = Upgrades(self, upgrade_timeout)
        self.probed = self._upgrades.probed
        self.heartbeat = Heartbeat(self.eio, self._silent)
        self.connections: set[Connection] = set()
        self._on_connect: Any = None
        self._on_disconnect: Any = None
        self._handle_request: Any = None
        self.flusher = Flusher()
        self._polling = Polling(self)
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
            "make_response": make_response,
        }
        self.eio._ok = self._polling.answer_poll
        self._connect_namespace = self._sio._handle_connect
        self._sio._handle_connect = self._connect
        self.eio.create_queue = partial(ByteQueue, self.grew)
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
        # Its task looks for lost clients one by one; here the heartbeat does.
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
            return self._polling.answer(request, "Invalid transport", 400)
        if request.method == "POST":
            return await self._polling.post(request)
        if request.method != "GET":
            return self._polling.answer(request, "A session is opened and polled by GET.", 400)
        options = ",".join(request.headers.getall("Connection", [])).lower().split(",")
        if request.headers.get("Upgrade") and "upgrade" not in map(str.strip, options):
            # For python-engineio it would be a poll, of a client that has none.
            return web.Response(status=400, text="Upgrade needs a Connection that says so, too.")
        socket = self.eio.sockets.get(request.query.get("sid"))
        if socket is None or not socket.connected:
            return await self._handle_request(request)
        if request.headers.get("Upgrade"):
            second = socket.upgraded or socket.upgrading
            return await (
                self._upgrades.turn_away(request) if second else self._handle_request(request)
            )
        if socket.upgraded or socket.upgrading or request.query["transport"] != "polling":
            return await self._handle_request(request)
        if socket.closed:
            return self._polling.last_poll(request, socket)
        return await self._polling.poll(request, socket)

    def _websocket(self, handler: Any, server: Any) -> Any:
        # The handler is bound to the Engine.IO socket that the request is for.
        return partial(self._upgrades.upgrade, handler.__self__)

    def start_background_task(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        """As in python-engineio, but pings take no task, and no task is forgotten."""
        if getattr(target, "__func__", None) is AsyncSocket._send_ping:
            self.heartbeat.schedule(target.__self__)
            return None
        return self.spawn(target(*args, **kwargs))

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
        connection.inbox.on_text = socket.on_text = on_text
        socket.queue = Outbox(connection)
        transport.write(SWITCHING % accept + frame(self._opening % sid.encode()))
        transport.set_protocol(connection)
        connection.connection_made(transport)
        self.heartbeat.schedule(socket)
        if early:
            connection.inbox.data_received(early)

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

    def listen(self, socket: AsyncSocket, on_text: OnText) -> None:
        """Let `on_text` have the text messages of a client, those for which it returns true."""
        socket.on_text = on_text
        connection = self.connection_of(socket)
        if connection is not None:
            connection.inbox.on_text = on_text

    def receive_after(self, socket: AsyncSocket, work: Coroutine[Any, Any, None]) -> None:
        """Do something for the client of a WebSocket before the next message of it is received."""
        connection = self.connection_of(socket)
        assert connection is not None
        connection.inbox.receive_after(work)

    def connection_of(self, socket: AsyncSocket) -> Connection | None:
        """The WebSocket of a client; None while it has only long polling."""
        return socket.queue.connection if isinstance(socket.queue, Outbox) else None

    def hold(self, socket: AsyncSocket, on: bool) -> None:
        """Read no more from a client's WebSocket, or read on; elsewhere nothing happens."""
        connection = self.connection_of(socket)
        if connection is not None and on:
            connection.inbox.hold(APPLICATION)
        elif connection is not None:
            connection.inbox.release(APPLICATION)

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
                posts = posts_of(socket)
                begun = [each.since for each in (queue, posts) if each.size]
                since = min(begun, default=self.loop.time())
                drop = partial(self.drop, socket)
                waiting += posts.size
                yield Holding(address, since, drop, queue.own, waiting=waiting, shared=queue.shared)

    def drop(self, socket: AsyncSocket) -> None:
        """Cut a client off at once; what waits for it is lost."""
        connection = self.connection_of(socket)
        if connection is not None:
            connection.abort()
        elif socket.queue.response is not None:
            socket.queue.response.cut()
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
        if connection.inbox.receiving is not None:
            await asyncio.wait([connection.inbox.receiving])
        await socket.close(wait=False, abort=True, reason=self.eio.reason.TRANSPORT_CLOSE)
        self.eio.sockets.pop(socket.sid, None)
        socket.on_text = None

    def count(self, socket: AsyncSocket, number: int = 1) -> float:
        """Count what a client sends that is no event of an application, but pings, CONNECTs and the
        like; for how many seconds it should be read no more."""
        bucket: TokenBucket | None = getattr(socket, "controls", None)
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
        if connection is not None and connection.inbox.held_for(APPLICATION) and not socket.closed:
            self.heartbeat.wait_on(socket)  # Its answer may be among what was not read.
        else:
            self.spawn(self.time_out(socket))

    async def time_out(self, socket: AsyncSocket) -> None:
        """Close the connection of a client that did not answer a ping."""
        await self.end(socket, self.eio.reason.PING_TIMEOUT)
        self.eio.sockets.pop(socket.sid, None)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in a task that is kept until it is done."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self, patience: float) -> None:
        """Ping no more; wait for all connections to go, and after `patience` seconds cut them."""
        self.heartbeat.stop()
        end = self.loop.time() + patience
        while self.connections and self.loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()


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
