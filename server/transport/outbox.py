"""What python-engineio has in the place of a queue for a client that has a WebSocket."""

import asyncio
from typing import Any

from engineio.async_socket import AsyncSocket
from engineio.packet import Packet

from server.transport.connection import Connection
from server.transport.frames import Prepared, frame
from server.transport.inbox import OnText


class Outbox:
    """Stands in the place of a queue once there is a WebSocket: what is put in goes out."""

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @property
    def size(self) -> int:
        """Bytes that are not on their way yet."""
        return self.connection.backlog()

    def post(self, message: Prepared) -> None:
        """Send a prepared message."""
        self.connection.write(message.frame)

    def say(self, *packets: bytes) -> None:
        """Send packets of Socket.IO."""
        self.connection.write(b"".join([frame(b"4" + text) for text in packets]))

    def put_nowait(self, packet: Packet | None) -> None:
        """Send a packet of Engine.IO; None closes the connection, as it ends a stock writer."""
        self.connection.send(packet)

    async def put(self, packet: Packet | None) -> None:
        """The same, for python-engineio."""
        self.connection.send(packet)

    async def join(self) -> None:
        """Nothing ever waits in here."""

    def get_nowait(self) -> Any:
        """Nothing more for the poll that was under way when its client came here."""
        raise asyncio.QueueEmpty

    def task_done(self) -> None:
        """For the same poll."""


class Session(AsyncSocket):
    """An Engine.IO socket that has had its WebSocket from the start: it never had a queue."""

    def __init__(self, server: Any, sid: str) -> None:
        self.server = server
        self.sid = sid
        self.queue: Outbox | None = None
        self.last_ping: float | None = None
        self.connected = self.upgraded = True
        self.upgrading = self.closing = self.closed = False
        self.session: dict[str, Any] = {}
        self.on_text: OnText | None = None
