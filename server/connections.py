"""The connections that speak HTTP: how many there may be, and which of them have to go."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from server.config import Config
from server.limits import Crowd, Limits, neighbours, overdue


class Connections:
    """The connections that speak HTTP, those of plain WebSockets included."""

    def __init__(self, config: Config, limits: Limits) -> None:
        self._config = config
        self._limits = limits
        each = 0 if config.trusted_proxies else config.max_connections_address
        # Twice as many as clients: one that polls has two of them at times.
        self._crowd = Crowd(2 * config.max_connections, 2 * each)
        # With the addresses for which they are counted.
        self._open: dict[asyncio.Transport, str] = {}
        # Until when those must have sent a request that have sent none, the soonest first.
        self._silent: dict[asyncio.Transport, float] = {}
        # Bytes that a connection has left unread, and since when not one of them was read.
        self._unread: dict[asyncio.Transport, tuple[int, float]] = {}

    @property
    def total(self) -> int:
        """How many there are at the moment."""
        return self._crowd.total

    def watch(self, server: web.Server) -> None:
        """Let the connections leave by themselves that aiohttp's server has been given."""
        made, lost = server.connection_made, server.connection_lost
        transports: dict[Any, asyncio.Transport] = {}

        def connection_made(handler: Any, transport: asyncio.Transport) -> None:
            made(handler, transport)
            transports[handler] = transport

        def connection_lost(handler: Any, exc: BaseException | None = None) -> None:
            self.leave(transports.pop(handler))
            lost(handler, exc)

        server.connection_made = connection_made  # type: ignore[method-assign]
        server.connection_lost = connection_lost  # type: ignore[method-assign]

    def enter(self, transport: asyncio.Transport) -> None:
        """Count a connection in, or cut it where there are too many."""
        address = self._open[transport] = neighbours(peer(transport))
        if not self._crowd.has_room(address):
            self._limits.refuse("http_connections")
            transport.abort()
        self._crowd.enter(address)
        now = asyncio.get_running_loop().time()
        self._silent[transport] = now + self._config.request_timeout

    def leave(self, transport: asyncio.Transport) -> None:
        """Count a connection out that is gone, or is HTTP no more."""
        self._crowd.leave(self._open.pop(transport))
        self._silent.pop(transport, None)
        self._unread.pop(transport, None)

    def heard(self, request: web.Request) -> None:
        """A connection has sent a request."""
        if request.transport is not None:
            self._silent.pop(request.transport, None)

    @contextmanager
    def patience(self, request: web.Request) -> Iterator[None]:
        """Cut the connection of a request whose body does not come in time."""
        body, transport = request.content, request.transport
        if body.is_eof() or transport is None:
            yield
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._config.request_timeout, transport.abort)
        body.on_eof(timer.cancel)
        try:
            yield
        finally:
            timer.cancel()

    def cut_idle(self) -> None:
        """Cut the connections that say nothing, and those that have read nothing for `SLOW_TIMEOUT`
        of what waits for them."""
        now = asyncio.get_running_loop().time()
        for transport in overdue(self._silent, now):
            transport.abort()
        for transport in self._open:
            size = transport.get_write_buffer_size()
            before, since = self._unread.get(transport, (0, now))
            if size == 0:
                self._unread.pop(transport, None)
            elif before == 0 or size < before:
                self._unread[transport] = size, now
            elif now - since > self._config.slow_timeout:
                transport.abort()

    def cut_all(self) -> None:
        """Cut all connections that speak HTTP."""
        for transport in self._open:
            transport.abort()


def peer(transport: asyncio.BaseTransport) -> str:
    """The address at the other end of a connection."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""
