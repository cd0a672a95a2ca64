"""The connections that speak HTTP: how many there may be, and which of them have to go."""

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from server.access.rate_limits import ConnectionQuota, Limits, neighbours, overdue
from server.budget import LITTLE, Budget, Holding, Shared
from server.config import Config

COPIES = 4
"""How often a request is in memory while it is decoded, about."""


class HttpConnection(asyncio.BufferedProtocol):
    """A connection that speaks HTTP, to aiohttp; and how much is held for it."""

    __slots__ = (
        "_budget",
        "_buffer",
        "_handler",
        "_loop",
        "_received",
        "_received_at",
        "_transport",
        "address",
        "clogged_at",
        "holds",
    )

    def __init__(
        self,
        handler: asyncio.Protocol,
        transport: asyncio.Transport,
        buffer: memoryview,
        budget: Budget,
    ) -> None:
        """`handler` is aiohttp's; it hears all that happens. What is read comes into `buffer`."""
        self._handler = handler
        self._transport = transport
        self._buffer = buffer
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        # Bytes that aiohttp has been given of requests, or messages, that are not done; since when.
        self._received = 0
        self._received_at = 0.0
        self.clogged_at = 0.0
        """The time since when what was written last is not on its way."""
        self.address = neighbours(peer(transport))
        """Whom it counts for."""
        self.holds: Callable[[], tuple[int, int, Collection[Shared]]] = nothing
        """How many bytes of it wait to be written, and of its messages to be carried out; and what
        else waits to be written to it, and to others as well."""

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received(bytes(self._buffer[:nbytes]))

    def received(self, data: bytes) -> None:
        """Let aiohttp have what was read."""
        if not self._received:
            self._received_at = self._loop.time()
        self._received += len(data)
        if self._received > LITTLE:
            self._budget.grew(COPIES * len(data))
        self._handler.data_received(data)

    def taken(self) -> None:
        """All that has come whole is done."""
        self._received = 0

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self.clogged_at = self._loop.time()
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._handler.connection_lost(error)

    def holding(self) -> Holding:
        """What is held for it."""
        queued, waiting, shared = self.holds()
        unsent = queued + self._transport.get_write_buffer_size()
        received = self._received if self._received > LITTLE else 0
        if self.holds is nothing:  # No WebSocket, but requests and responses.
            unsent *= 2  # The response is there until all of it is on its way.
            received *= COPIES
        since = self.clogged_at if unsent else self._received_at
        cut = self._transport.abort
        return Holding(self.address, since, cut, unsent, received, waiting, shared)


def nothing() -> tuple[int, int, Collection[Shared]]:
    """Nothing is held beside what aiohttp holds."""
    return 0, 0, ()


def speaks_http(request: web.BaseRequest) -> HttpConnection | None:
    """The connection of a request; None once it is gone, or speaks something else."""
    protocol = request.transport.get_protocol() if request.transport is not None else None
    return protocol if isinstance(protocol, HttpConnection) else None


class Connections:
    """The connections that speak HTTP, those of plain WebSockets included."""

    def __init__(self, config: Config, limits: Limits, budget: Budget) -> None:
        self._config = config
        self.budget = budget
        budget.watch(self._holdings)
        self._limits = limits
        each = 0 if config.trusted_proxies else config.max_connections_address
        # Twice as many as clients: one that polls has two of them at times.
        self._quota = ConnectionQuota(2 * config.max_connections, 2 * each)
        # With the addresses for which they are counted.
        self._open: dict[asyncio.Transport, str] = {}
        # Until when those must have sent a request that have sent none, the soonest first.
        self._silent: dict[asyncio.Transport, float] = {}
        # Bytes that a connection has left unread, and since when not one of them was read.
        self._unread: dict[asyncio.Transport, tuple[int, float]] = {}

    @property
    def total(self) -> int:
        """How many there are at the moment."""
        return self._quota.total

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
        if not self._quota.admits(address):
            self._limits.refuse("http_connections")
            transport.abort()
        self._quota.enter(address)
        now = asyncio.get_running_loop().time()
        self._silent[transport] = now + self._config.request_timeout

    def leave(self, transport: asyncio.Transport) -> None:
        """Count a connection out that is gone, or is HTTP no more."""
        self._quota.leave(self._open.pop(transport))
        self._silent.pop(transport, None)
        self._unread.pop(transport, None)

    def heard(self, request: web.Request, address: str) -> None:
        """A connection has sent a request, which comes from that address."""
        if request.transport is not None:
            self._silent.pop(request.transport, None)
        connection = speaks_http(request)
        if connection is not None:
            connection.address = neighbours(address)

    def done(self, request: web.Request) -> None:
        """A request is done, but for what is still to be written of its response."""
        connection = speaks_http(request)
        if connection is not None:
            connection.taken()

    def answers(self, response: web.StreamResponse) -> None:
        """A response is about to be written."""
        body = response.body if isinstance(response, web.Response) else None
        if isinstance(body, bytes) and len(body) > LITTLE:
            self.budget.grew(2 * len(body))

    def _holdings(self) -> Iterator[Holding]:
        for transport in self._open:
            protocol = transport.get_protocol()
            if isinstance(protocol, HttpConnection):
                yield protocol.holding()

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
            elif before == 0 or size < before or clogged_after(transport, since):
                self._unread[transport] = size, now
            elif now - since > self._config.slow_timeout:
                transport.abort()

    def cut_all(self) -> None:
        """Cut all connections that speak HTTP."""
        for transport in self._open:
            transport.abort()


def clogged_after(transport: asyncio.Transport, since: float) -> bool:
    """Whether something has been read since then, so that more was written."""
    protocol = transport.get_protocol()
    return isinstance(protocol, HttpConnection) and protocol.clogged_at > since


def peer(transport: asyncio.BaseTransport) -> str:
    """The address at the other end of a connection."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""
