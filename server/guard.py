"""What every HTTP request passes first: where it comes from, and how many there are of it.

A browser tells with each request which site's page made it, in `Origin`; a page may only talk to
the server that it came from, and to those that name it in `ALLOWED_ORIGINS`. Where no tokens are
needed, a name in `Host` has to be known too: else any site could have its own name lead to this
machine, and its page would be of the same origin. Programs send no `Origin`, and are let through.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NoReturn
from urllib.parse import urlsplit

from aiohttp import web, web_response
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from multidict import CIMultiDict, CIMultiDictProxy

from server.config import Config, canonical_origin
from server.errors import Forbidden
from server.limits import Crowd, Limits, neighbours, overdue

log = logging.getLogger(__name__)

Headers = CIMultiDict[str] | CIMultiDictProxy[str]
ADDRESS = web.RequestKey("address", str)
"""Where a request carries the address that it comes from."""
PUBLIC = ("/healthz", "/readyz", "/metrics")
"""Paths that platforms ask for under any name; what is not for all checks that by itself."""
CDN = ("https://cdn.socket.io/4.8.3/", "https://cdn.jsdelivr.net/npm/uplot@1.6.32/dist/")
"""Where the page may load scripts and styles from, beside this server."""
MOST_SITES = 256
"""From how many sites it is remembered whether they may come in."""
MOST_SHOWN = 200
"""Characters of what a client sent that are put into the log."""
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src 'self' {' '.join(CDN)}",
        f"style-src 'self' {' '.join(CDN)}",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # So that a new release is seen at once.
    "Cache-Control": "no-cache",
    # In the place of the versions of Python and aiohttp.
    "Server": "Hourglass",
}
"""Headers of every response that does not say otherwise; `Server` always."""
# Answers to what is no HTTP come from deep within aiohttp, and pass nothing of ours.
vars(web_response)["SERVER_SOFTWARE"] = HEADERS["Server"]

CORS = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}


class Guard:
    """Lets requests through to the doors, and says of each response how browsers must treat it."""

    def __init__(self, config: Config, limits: Limits) -> None:
        self._config = config
        self._limits = limits
        self._origins = set(config.origins)
        self._hosts = {urlsplit(origin).netloc for origin in config.origins}
        each = 0 if config.trusted_proxies else config.max_connections_address
        # Twice as many as clients: one that polls has two of them at times.
        self._sockets = Crowd(2 * config.max_connections, 2 * each)
        # The connections that speak HTTP, with the addresses for which they are counted.
        self._open: dict[asyncio.Transport, str] = {}
        # Until when those must have sent a request that have sent none, the soonest first.
        self._silent: dict[asyncio.Transport, float] = {}
        # Bytes that a connection has left unread, and since when not one of them was read.
        self._unread: dict[asyncio.Transport, tuple[int, float]] = {}
        self._fault = lru_cache(MOST_SITES)(self._find_fault)

    def add_to(self, app: web.Application) -> None:
        """Guard all routes of an application."""
        app.middlewares.append(self._middleware())
        app.on_response_prepare.append(self._add_headers)

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
        if not self._sockets.has_room(address):
            self._limits.refuse("http_connections")
            transport.abort()
        self._sockets.enter(address)
        now = asyncio.get_running_loop().time()
        self._silent[transport] = now + self._config.request_timeout

    def leave(self, transport: asyncio.Transport) -> None:
        """Count a connection out that is gone, or is HTTP no more."""
        self._sockets.leave(self._open.pop(transport))
        self._silent.pop(transport, None)
        self._unread.pop(transport, None)

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

    @property
    def sockets(self) -> int:
        """Connections that speak HTTP at the moment, or plain WebSocket."""
        return self._sockets.total

    def address(self, headers: Headers, remote: str) -> str:
        """Where a request comes from: the address that the outermost trusted proxy saw."""
        hops = self._config.trusted_proxies
        if hops:
            seen = ",".join(headers.getall("X-Forwarded-For", [])).split(",")
            if len(seen) >= hops and (found := without_port(seen[-hops].strip())):
                return found
        return remote

    def lets_in(self, headers: Headers, address: str) -> bool:
        """Whether a request to connect passes, as one of aiohttp would; only then it is counted."""
        return self._fault(*site(headers)) is None and self._limits.may_connect(address)

    def _middleware(self) -> Any:
        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            address = request[ADDRESS] = self.address(request.headers, request.remote or "")
            if request.transport is not None:
                self._silent.pop(request.transport, None)
            if request.path not in PUBLIC:
                self._check_site(request)
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                return web.Response(status=204)
            if connects(request):
                self._limits.connect(address)
            with self._patience(request):
                return await handler(request)

        return guarded

    @contextmanager
    def _patience(self, request: web.Request) -> Iterator[None]:
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

    def _check_site(self, request: web.Request) -> None:
        """Raises `Forbidden` when it is not a page of this server that asks, nor a program."""
        fault = self._fault(*site(request.headers))
        if fault is not None:
            self._refuse(request, *fault)

    def _find_fault(
        self, host: str, origin: str | None, foreign: bool
    ) -> tuple[str | None, str] | None:
        """Which site may not come in, and why; None where it may."""
        host = host.lower()
        if host and not self._config.secrets and not self.known(host):
            return f"http://{host}", "this server goes by another name"
        strange = foreign if origin is None else not self._allowed(origin, host)
        if strange:
            return origin, "pages of other sites may not come in"
        return None

    def known(self, host: str) -> bool:
        """Whether a name cannot be one that somebody else leads here: no public name is dotless."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return "." not in name or is_address(name) or without_default_port(host) in self._hosts

    def _allowed(self, origin: str, host: str) -> bool:
        if "*" in self._origins:
            return True
        try:
            found = canonical_origin(origin)
        except ValueError:
            return False
        # With or without TLS: that may end at a proxy in front.
        own = (host, without_default_port(host))
        return found in self._origins or urlsplit(found).netloc in own

    def _refuse(self, request: web.Request, origin: str | None, why: str) -> NoReturn:
        self._limits.refuse("site")
        if self._limits.may_log():
            remedy = ""
            with suppress(ValueError):
                if origin is not None:
                    remedy = f": ALLOWED_ORIGINS={canonical_origin(origin)} would let it in"
            shown = ascii(f"{origin}"[:MOST_SHOWN])
            log.warning("%s asked from %s: %s%s", request[ADDRESS], shown, why, remedy)
        raise Forbidden(why)

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers["Server"] = HEADERS["Server"]
        origin = request.headers.get("Origin")
        if origin is not None and self._allowed(origin, ""):
            headers["Access-Control-Allow-Origin"] = origin
            headers.add("Vary", "Origin")
            for name, value in CORS.items():
                headers[name] = value


class FaultsOfClients(logging.Filter):
    """Keeps out of the log what aiohttp says, with a traceback, of requests that are none or whose
    client is gone."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | ConnectionError)


def connects(request: web.Request) -> bool:
    """Whether a request wants a new connection of Socket.IO, or a plain WebSocket."""
    if request.path == "/ws":
        return True
    return request.path.startswith("/socket.io") and not request.query.get("sid")


def bearer(request: web.BaseRequest) -> str:
    """The token in the header `Authorization`; empty where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def site(headers: Mapping[str, str]) -> tuple[str, str | None, bool]:
    """What a request tells of where it comes from: its host, its origin, whether it is foreign."""
    return headers.get("Host", ""), headers.get("Origin"), foreign(headers)


def foreign(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that the page of another site wants this, and not in a new page."""
    site = headers.get("Sec-Fetch-Site", "none")
    return site not in ("same-origin", "none") and headers.get("Sec-Fetch-Mode") != "navigate"


def peer(transport: asyncio.BaseTransport) -> str:
    """The address at the other end of a connection."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def without_port(text: str) -> str | None:
    """The address in an entry of `X-Forwarded-For`; None where there is none."""
    try:
        host = text if is_address(text) else urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return None
    return host if is_address(host) else None


def without_default_port(host: str) -> str:
    """A `Host` as an origin would have it."""
    return host.removesuffix(":443").removesuffix(":80")
