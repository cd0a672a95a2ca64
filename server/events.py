"""The Socket.IO door: a connection's life, and its events as commands.

    client                                server
      │ CONNECT {token?, name?, rooms?, since?}
      ├──────────────────────────────────►│  refused: CONNECT_ERROR with {code, message, field?}
      │◄──────────────────────────────────┤  CONNECT, then each room's snapshot or missed events
      │ request | kill | status | …       │
      ├──────────────────────────────────►│  the command of that name (`message`: that in `route`)
      │◄──────────────────────────────────┤  its acknowledgement, or the event `reply`
      │◄──────────────────────────────────┤  started, killed, finished, stopped, progress, presence

The commands themselves are in `commands.py`.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from socketio.exceptions import ConnectionRefusedError as Refused

from server.checks import Checker
from server.commands import Caller, Commands, Reply, refusal
from server.config import Config
from server.errors import CommandError, Invalid
from server.protocol import Frame, Hello
from server.rooms import Client, Rooms
from server.transport import Respond, SocketServer, Undecodable


class SocketClient(Client):
    """A Socket.IO connection that hears events."""

    def __init__(self, server: SocketServer, sid: str, name: str) -> None:
        super().__init__(name)
        self._server = server
        self._sid = sid
        self._cutting: asyncio.Task[None] | None = None

    def send(self, frame: Frame) -> None:
        self._server.send_frame(self._sid, frame)

    def backlog(self) -> int:
        return self._server.backlog(self._sid)

    def drop(self) -> None:
        if self._cutting is None:
            self._cutting = asyncio.ensure_future(self._server.cut(self._sid))


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection that was let in."""

    caller: Caller
    client: SocketClient
    hello: Hello


class Events:
    """What happens on Socket.IO connections."""

    def __init__(
        self,
        server: SocketServer,
        checker: Checker,
        commands: Commands,
        rooms: Rooms,
        config: Config,
    ) -> None:
        self._server = server
        self._checker = checker
        self._commands = commands
        self._rooms = rooms
        self._config = config
        self._connections: dict[str, Connection] = {}
        server.on_event = self._event
        server.on_ready = self._ready
        server.on("connect", self._connect)
        server.on("disconnect", self._disconnect)

    # Nothing may wait in here: python-socketio keeps a client for ever that leaves meanwhile.
    def _connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        try:
            if isinstance(auth, Undecodable):
                raise Invalid("auth cannot be read", field="auth")
            hello = self._checker.hello(auth)
            caller = self._commands.welcome(hello, "socket")
        except CommandError as error:
            problem = refusal(error).error
            raise Refused(problem.message, problem) from None
        client = caller.client = SocketClient(self._server, sid, caller.identity.name)
        self._connections[sid] = Connection(caller, client, hello)

    async def _ready(self, sid: str) -> None:
        connection = self._connections.get(sid)
        if connection is not None:
            await self._commands.admit(connection.caller, connection.hello)

    def _disconnect(self, sid: str, reason: str) -> None:
        connection = self._connections.pop(sid, None)
        if connection is not None:
            self._rooms.forget(connection.client)

    async def _event(self, sid: str, name: str, args: list[Any], respond: Respond) -> None:
        connection = self._connections.get(sid)
        if connection is None:
            return
        client = connection.client
        reply = await self._answer(connection.caller, name, args)
        if not await client.answerable(self._config.max_backlog, self._config.slow_timeout):
            client.drop()
            return
        respond(reply.message)
        if reply.then is not None:
            reply.then()

    async def _answer(self, caller: Caller, name: str, args: list[Any]) -> Reply:
        if args and isinstance(args[0], Undecodable):
            error = args[0].error
            known = error if isinstance(error, CommandError) else Invalid(str(error))
            return self._commands.refuse(caller.bucket, known)
        if len(args) > 1:
            several = Invalid(f"a command takes one object, not {len(args)} values")
            return self._commands.refuse(caller.bucket, several)
        payload = args[0] if args else {}
        return await self._commands.answer(caller, None if name == "message" else name, payload)
