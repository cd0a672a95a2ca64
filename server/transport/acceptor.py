"""Lets connections in, and gives each a protocol of its own.

`asyncio.Server` does as much in twice as many turns of the loop, with a task for each connection.
The one private name of asyncio's that this takes is guarded by a test.
"""

import asyncio
import errno
import logging
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections.abc import Callable
from socket import socket

BACKLOG = 1024
"""Connections that wait to be let in, at most: all browsers come back at once after a restart."""
AT_ONCE = 128
"""Connections that are let in before it is the turn of others."""
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What the system says where there is no room for one more connection."""
PAUSE = 1.0
"""Seconds until the next try then: meanwhile it would say so again and again."""

log = logging.getLogger(__name__)


class Acceptor:
    """Sockets that listen, in the loop of asyncio that waits for them with a selector."""

    def __init__(self, new_protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """`new_protocol` makes the protocol of a connection."""
        self._new_protocol = new_protocol
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket] = []
        self._resuming: asyncio.TimerHandle | None = None

    async def open(self, host: str, port: int) -> None:
        """Let connections in at each address of `host`. Raises `OSError` when the port is taken."""
        server = await self._loop.create_server(self._new_protocol, host, port, start_serving=False)
        self._sockets = [listening.dup() for listening in server.sockets]
        server.close()
        for listening in self._sockets:
            listening.setblocking(False)
            listening.listen(BACKLOG)
        self._resume()

    @property
    def name(self) -> tuple[str, int]:
        """The host and the port of the first address."""
        host, port = self._sockets[0].getsockname()[:2]
        return host, port

    def close(self) -> None:
        """Let nobody in any more; closing twice is as good as once."""
        self._stop()
        for listening in self._sockets:
            listening.close()
        self._sockets = []

    def _resume(self) -> None:
        self._resuming = None
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _stop(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
        for listening in self._sockets:
            self._loop.remove_reader(listening)

    def _accept(self, listening: socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("a connection cannot be let in: %s", error)
                if error.errno in NO_ROOM:
                    self._stop()
                    self._resuming = self._loop.call_later(PAUSE, self._resume)
                return
            connection.setblocking(False)
            extra = {"peername": address}
            _SelectorSocketTransport(self._loop, connection, self._new_protocol(), extra=extra)
