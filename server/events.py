"""The Socket.IO door: a connection's life, and its events as commands.

    client                                server
      │ CONNECT {token?, name?, rooms?, since?}
      ├──────────────────────────────────►│  refused: CONNECT_ERROR with {code, message, field?}
      │◄──────────────────────────────────┤  CONNECT, then each room's snapshot or missed events
      │ request | kill | status | …       │
      ├──────────────────────────────────►│  the command of that name (`message`: that in `route`)
      │◄──────────────────────────────────┤  its acknowledgement, or the event `reply`
      │◄──────────────────────────────────┤  started, killed, finished, stopped, amended, …

What the commands do is in `core/handlers.py`.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler
from engineio.async_socket import AsyncSocket
from msgspec import Struct
from socketio.exceptions import ConnectionRefusedError as Refused

from server.access.auth import Expiries, expired
from server.access.rate_limits import Limits, neighbours, overdue, weight
from server.budget import Holding, Shared
from server.config import Config
from server.contract.messages import Frame, Hello
from server.contract.validation import Checker
from server.core.admission import Admission
from server.core.commands import Commands
from server.core.pipeline import Pipeline
from server.core.replies import Caller, farewell, refusal
from server.core.rooms import Rooms
from server.core.subscribers import Client, Group
from server.doors.origin_guard import ADDRESS, bearer
from server.errors import CommandError, Invalid
from server.transport.connection import Connection as WebSocket
from server.transport.multicast import Multicast
from server.transport.socketio_packets import Undecodable
from server.transport.socketio_server import Admit, Origin, SocketHandler, SocketServer


class SocketClient(Client):
    """A Socket.IO connection that receives events."""

    def __init__(self, server: SocketServer, socket: AsyncSocket, name: str) -> None:
        super().__init__(name)
        self._server = server
        self._socket = socket

    @property
    def session(self) -> str:
        """Its session of Engine.IO."""
        sid: str = self._socket.sid
        return sid

    def send(self, frame: Frame) -> None:
        if not self._socket.closed:
            self._socket.queue.post(self._server.prepared(frame))

    def send_shared(self, name: str, head: bytes, body: Shared) -> None:
        if not self._socket.closed:
            self._server.share(self._socket, name, head, body)

    def backlog(self) -> int:
        size: int = self._socket.queue.size
        return size

    def drop(self) -> None:
        self._server.drop(self._socket)

    def websocket(self) -> WebSocket | None:
        """The WebSocket of the connection, once it has one."""
        return self._server.websocket(self._socket)

    async def end(self, why: Frame) -> None:
        """Send the reason, and end the session in such a way that the client may reconnect."""
        self.send(why)
        await self._server.end(self._socket)

    def answer(self, answers: list[tuple[bytes | None, bytes]]) -> None:
        """Answer commands, each by the id of its acknowledgement."""
        self._server.answer(self._socket, answers)

    def hold(self, on: bool) -> None:
        """Pause or resume reading. Long polling is paused by `when_room` instead."""
        self._server.hold(self._socket, on)


class SocketGroup(Group):
    """Socket.IO connections over WebSockets that keep up."""

    def __init__(self, server: SocketServer, on_slow: Callable[[Client], None]) -> None:
        self._server = server
        self._multicast = Multicast(server.driver.flusher, on_slow)

    def add(self, client: Client) -> bool:
        websocket = client.websocket() if isinstance(client, SocketClient) else None
        return websocket is not None and self._multicast.add(websocket, client)

    def discard(self, client: Client) -> None:
        websocket = client.websocket() if isinstance(client, SocketClient) else None
        if websocket is not None:
            self._multicast.discard(websocket)

    def send(self, frame: Frame) -> None:
        self._multicast.write(self._server.prepared(frame).frame)


class Session(Struct):
    """A session of Engine.IO, with what tells whether a request belongs to it."""

    address: str
    proof: bytes = b""
    """The digest of its client's token; empty where none has been sent."""
    needs_proof: bool = False
    """Whether it was begun with that token, so that each request must send it."""

    def is_of(self, origin: Origin, *, moves: bool) -> bool:
        """Whether a request comes from the same client, whose address may change if it `moves`."""
        if self.proof and compare_digest(digest(origin.token), self.proof):
            return True
        if self.needs_proof:
            return False
        return moves or neighbours(origin.address) == neighbours(self.address)


class Connection(Struct, frozen=True):
    """A connection that was admitted."""

    caller: Caller
    client: SocketClient
    pipeline: Pipeline


class Events(SocketHandler):
    """Serves the clients of Socket.IO."""

    def __init__(
        self,
        server: SocketServer,
        checker: Checker,
        admission: Admission,
        commands: Commands,
        rooms: Rooms,
        limits: Limits,
        config: Config,
    ) -> None:
        self._server = server
        self._checker = checker
        self._admission = admission
        self._commands = commands
        self._rooms = rooms
        self._limits = limits
        self._config = config
        self._connections: dict[str, Connection] = {}
        self._expiries: Expiries[str] = Expiries()
        # All sessions of Engine.IO; and the deadlines of those that have not connected, the soonest
        # first.
        self._sessions: dict[str, Session] = {}
        self._silent: dict[str, float] = {}
        server.serve(self)

    @property
    def clients(self) -> int:
        """The number of clients that are connected."""
        return len(self._connections)

    def holdings(self) -> Iterator[Holding]:
        """What each session of Engine.IO holds in memory."""
        found = self._connections.values()
        waiting = {each.client.session: each.pipeline.waiting() for each in found}

        def known(session: str) -> tuple[str, int]:
            of = self._sessions.get(session, Session(""))
            return neighbours(of.address), waiting.get(session, 0)

        return self._server.driver.holdings(known)

    def add_to(self, app: web.Application) -> None:
        """Reject requests for a session that another client has begun."""

        @web.middleware
        async def of_its_owner(request: web.Request, handler: Handler) -> web.StreamResponse:
            moves = not self._config.bind_sessions
            for sid in sessions_in(request) & self._sessions.keys():
                if not self._sessions[sid].is_of(self.origin_of(request), moves=moves):
                    self._limits.refuse("session")
                    message = "this session belongs to another client"
                    return web.json_response({"code": 1, "message": message}, status=400)
            return await handler(request)

        app.middlewares.append(of_its_owner)

    def origin_of(self, request: web.Request) -> Origin:
        return Origin(request[ADDRESS], bearer(request))

    def on_open(self, eio_sid: str, origin: Origin) -> None:
        session = self._sessions[eio_sid] = Session(origin.address)
        if origin.token:
            session.proof, session.needs_proof = digest(origin.token), True
        self._expect(eio_sid)
        self._limits.opened(origin.address)

    def _expect(self, eio_sid: str) -> None:
        """Set the deadline for a session to connect."""
        self._silent[eio_sid] = asyncio.get_running_loop().time() + self._config.connect_timeout

    def on_close(self, eio_sid: str) -> None:
        self._silent.pop(eio_sid, None)
        session = self._sessions.pop(eio_sid, None)
        if session is not None:
            self._limits.closed(session.address)

    def on_connect(self, sid: str, socket: AsyncSocket, auth: Any) -> Admit:
        try:
            if isinstance(auth, Undecodable):
                raise Invalid("auth is not valid JSON", field="auth")
            hello = self._checker.hello(auth)
            session = self._sessions.get(socket.sid, Session(""))
            caller = self._admission.welcome(hello, "socket", session.address)
        except CommandError as error:
            problem = refusal(error).error
            raise Refused(problem.message, problem) from None
        client = caller.client = SocketClient(self._server, socket, caller.identity.name)
        if hello.token and not session.needs_proof and client.websocket() is None:
            session.proof = digest(hello.token)
        pipeline = Pipeline(
            self._commands, caller, client, self._config, client.answer, client.hold
        )
        self._connections[sid] = Connection(caller, client, pipeline)
        self._expiries.add(sid, caller.identity)
        self._silent.pop(socket.sid, None)
        return partial(self._admit, client, hello)

    def _admit(self, client: SocketClient, hello: Hello) -> Coroutine[Any, Any, None] | None:
        if self._admission.admit_at_once(client, hello):
            return None
        return self._admit_later(client, hello)

    async def _admit_later(self, client: SocketClient, hello: Hello) -> None:
        try:
            await self._admission.admit(client, hello)
        except CommandError as error:
            await client.end(farewell(error))

    async def end_expired(self, now: float) -> None:
        """End the connections whose tokens have run out at `now`."""
        for sid in self._expiries.take(now):
            if connection := self._connections.get(sid):
                await connection.client.end(farewell(expired()))

    async def end_silent(self) -> None:
        """End the sessions that have not connected by their deadlines."""
        for session in overdue(self._silent, asyncio.get_running_loop().time()):
            await self._server.end_session(session)

    def on_disconnect(self, sid: str, reason: str) -> None:
        connection = self._connections.pop(sid, None)
        self._expiries.discard(sid)
        if connection is not None:
            self._rooms.forget(connection.client)
            # If its session ends as well, `on_close` follows right after this.
            self._expect(connection.client.session)

    def on_json(self, sid: str, id: bytes | None, text: str) -> bool:
        connection = self._connections.get(sid)
        return connection is None or connection.pipeline.feed_json(id, text)

    def on_large(self, sid: str, size: int) -> None:
        connection = self._connections.get(sid)
        if connection is not None:
            connection.caller.bucket.charge(weight(size))

    def on_event(self, sid: str, id: bytes | None, name: str, args: list[Any]) -> None:
        connection = self._connections.get(sid)
        if connection is None:
            return
        if args and isinstance(args[0], Undecodable):
            error = args[0].error
            known = error if isinstance(error, CommandError) else Invalid(str(error))
            connection.pipeline.refuse(id, known)
        elif len(args) > 1:
            several = Invalid(f"a command takes one object, not {len(args)} values")
            connection.pipeline.refuse(id, several)
        else:
            payload = args[0] if args else {}
            connection.pipeline.feed(id, None if name == "message" else name, payload)

    async def when_room(self, sid: str) -> None:
        connection = self._connections.get(sid)
        if connection is not None:
            await connection.pipeline.when_room()


def sessions_in(request: web.Request) -> set[str]:
    """The sessions that a request may name: aiohttp and python-engineio parse some queries
    differently."""
    named = parse_qs(urlsplit(request.path_qs).query).get("sid", [])
    return {*named, *request.query.getall("sid", [])}


def digest(token: str) -> bytes:
    """A digest of a token, so that the token itself is not retained."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
