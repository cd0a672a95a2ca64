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
from typing import Any

from socketio.exceptions import ConnectionRefusedError as Refused

from server.checks import Checker
from server.commands import Caller, Commands, Reply, refusal
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


class Events:
    """What happens on Socket.IO connections."""

    def __init__(
        self,
        server: SocketServer,
        checker: Checker,
        commands: Commands,
        rooms: Rooms,
        max_backlog: int,
    ) -> None:
        """`max_backlog`, in bytes, is what a client may leave unread of the answers to it."""
        self._server = server
        self._checker = checker
        self._commands = commands
        self._rooms = rooms
        self._max_backlog = max_backlog
        self._callers: dict[str, tuple[Caller, Hello]] = {}
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
        caller.client = SocketClient(self._server, sid, caller.identity.name)
        self._callers[sid] = (caller, hello)

    async def _ready(self, sid: str) -> None:
        known = self._callers.get(sid)
        if known is not None:
            await self._commands.admit(*known)

    def _disconnect(self, sid: str, reason: str) -> None:
        known = self._callers.pop(sid, None)
        if known is not None and known[0].client is not None:
            self._rooms.forget(known[0].client)

    async def _event(self, sid: str, name: str, args: list[Any], respond: Respond) -> None:
        known = self._callers.get(sid)
        if known is None:
            return
        caller = known[0]
        reply = await self._answer(caller, name, args)
        if caller.client is not None and caller.client.backlog() > 2 * self._max_backlog:
            caller.client.drop()  # It gives commands and does not read the answers.
            return
        respond(reply.message)
        if reply.then is not None:
            reply.then()

    async def _answer(self, caller: Caller, name: str, args: list[Any]) -> Reply:
        if args and isinstance(args[0], Undecodable):
            error = args[0].error
            return Reply(refusal(error if isinstance(error, CommandError) else Invalid(str(error))))
        if len(args) > 1:
            return Reply(refusal(Invalid(f"a command takes one object, not {len(args)} values")))
        payload = args[0] if args else {}
        return await self._commands.answer(caller, None if name == "message" else name, payload)
