"""Checks the origin, the host and the address of every HTTP request.

A browser sends the site of the page that makes a request as `Origin`. A page may only use the
server that it came from, and those that list it in `ALLOWED_ORIGINS`. Where no tokens are needed
the name in `Host` has to be known, too: otherwise a site could have its own name resolve to this
machine (DNS rebinding), and its page would be of the same origin. Programs send no `Origin`, and
pass.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, NoReturn
from urllib.parse import urlsplit

from aiohttp import web, web_response
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from multidict import CIMultiDict, CIMultiDictProxy

from server.access.rate_limits import Limits
from server.addresses import canonical_origin, is_address, is_loopback
from server.config import Config
from server.errors import Forbidden
from server.transport.http_connections import Connections

log = logging.getLogger(__name__)

Headers = CIMultiDict[str] | CIMultiDictProxy[str]
ADDRESS = web.RequestKey("address", str)
"""The key under which a request carries the address of its client."""
PUBLIC = ("/healthz", "/readyz", "/metrics")
"""Paths that platforms request under any host name; what is not public there is checked apart."""
CDN = ("https://cdn.socket.io/4.8.3/", "https://cdn.jsdelivr.net/npm/uplot@1.6.32/dist/")
"""CDNs from which the page may load scripts and styles."""
CONNECTING = ("/ws", "/socket.io")
"""Paths at which clients connect."""
FORWARDED = ("forwarded", "via", "x-forwarded", "x-real-ip", "x-client-ip")
"""Prefixes of the headers that proxies add by themselves."""
MOST_SITES = 256
"""For how many sites the result of the check is cached."""
MOST_SHOWN = 200
"""Characters of a client's header that are logged at most."""
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
"""Headers of every response that does not set them itself; `Server` is always set."""
# Answers to what is no HTTP come from deep within aiohttp, and pass nothing of ours.
vars(web_response)["SERVER_SOFTWARE"] = HEADERS["Server"]

CORS = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key",
    "Access-Control-Max-Age": "600",
}


class Guard:
    """Admits requests to the doors, and adds the security headers to responses."""

    def __init__(self, config: Config, limits: Limits, connections: Connections) -> None:
        self._config = config
        self._limits = limits
        self._connections = connections
        self._origins = set(config.origins)
        self._hosts = {urlsplit(origin).netloc for origin in config.origins}
        self._fault = lru_cache(MOST_SITES)(self._find_fault)

    def add_to(self, app: web.Application) -> None:
        """Guard all routes of an application."""
        app.middlewares.append(self._middleware())
        app.on_response_prepare.append(self._add_headers)

    def address(self, headers: Headers, remote: str) -> str:
        """The address of a client: what the outermost trusted proxy saw, or else `remote`."""
        return self._forwarded(headers) or remote

    def is_local(self, request: web.Request) -> bool:
        """Whether a request was certainly made by a program on this machine, not by a web page in a
        browser here: its host is no name that others could have resolve to this machine.

        A request through a proxy comes from the address that the proxy forwards; without one it
        may come from anywhere.
        """
        host = request.headers.get("Host", "").lower()
        if not host or not self.known(host):
            return False
        if self._config.trusted_proxies:
            return is_loopback(self._forwarded(request.headers) or "")
        forwarded = any(name.lower().startswith(FORWARDED) for name in request.headers)
        return not forwarded and is_loopback(request.remote or "")

    def lets_in(self, headers: Headers, address: str) -> bool:
        """Whether a connection request passes, as it would through aiohttp; counts it only then."""
        return self._fault(*site(headers)) is None and self._limits.may_connect(address)

    def _forwarded(self, headers: Headers) -> str | None:
        """The address that the outermost trusted proxy saw; None where it forwards none."""
        hops = self._config.trusted_proxies
        if not hops:
            return None
        seen = ",".join(headers.getall("X-Forwarded-For", [])).split(",")
        return without_port(seen[-hops].strip()) if len(seen) >= hops else None

    def _middleware(self) -> Any:
        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            address = request[ADDRESS] = self.address(request.headers, request.remote or "")
            self._connections.heard(request, address)
            try:
                return await answered(request, handler)
            finally:
                self._connections.done(request)

        async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path not in PUBLIC:
                self._check_site(request)
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                return web.Response(status=204)
            if connects(request):
                self._limits.connect(request[ADDRESS])
            with self._connections.patience(request):
                return await handler(request)

        return guarded

    def _check_site(self, request: web.Request) -> None:
        """Raises `Forbidden` unless a page of an allowed origin or a program makes the request."""
        fault = self._fault(*site(request.headers, reads=reads(request)))
        if fault is not None:
            self._refuse(request, *fault)

    def _find_fault(
        self, host: str, origin: str | None, foreign: bool
    ) -> tuple[str | None, str] | None:
        """The origin that is rejected, and why; None where the request passes."""
        host = host.lower()
        if host and not self._config.secrets and not self.known(host):
            return f"http://{host}", "host not allowed"
        strange = foreign if origin is None else not self._allowed(origin, host)
        if strange:
            return origin, "origin not allowed"
        return None

    def known(self, host: str) -> bool:
        """Whether no stranger can have a name resolve to this machine: public names have dots."""
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
            log.warning("request of %s from %s: %s%s", request[ADDRESS], shown, why, remedy)
        raise Forbidden(f"{why}: add it to ALLOWED_ORIGINS")

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        self._connections.answers(response)
        headers = response.headers
        if request.path.startswith("/socket.io"):
            headers.setdefault("Cache-Control", "no-store")
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers["Server"] = HEADERS["Server"]
        origin = request.headers.get("Origin")
        if origin is not None and self._allowed(origin, ""):
            headers["Access-Control-Allow-Origin"] = origin
            headers.add("Vary", "Origin")
            for name, value in CORS.items():
                headers[name] = value


class ClientErrorFilter(logging.Filter):
    """Drops aiohttp's log records, with tracebacks, of malformed requests and of lost clients."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | ConnectionError)


def connects(request: web.Request) -> bool:
    """Whether a request opens a connection: of Socket.IO, or a plain WebSocket."""
    if request.path == "/ws":
        return True
    return request.path.startswith("/socket.io") and not request.query.get("sid")


def bearer(request: web.BaseRequest) -> str:
    """The bearer token of a request; empty where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def site(headers: Mapping[str, str], *, reads: bool = False) -> tuple[str, str | None, bool]:
    """The host and the origin of a request, and whether it is cross-site."""
    foreign = from_elsewhere(headers) and not (reads and follows_link(headers))
    return headers.get("Host", ""), headers.get("Origin"), foreign


def reads(request: web.Request) -> bool:
    """Whether a request is read-only, and opens no connection."""
    return request.method in ("GET", "HEAD") and not request.path.startswith(CONNECTING)


def from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a browser marks a request as cross-site (`Sec-Fetch-Site`)."""
    return headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none")


def follows_link(headers: Mapping[str, str]) -> bool:
    """Whether a browser marks a request as a navigation to a whole page, not to a frame."""
    whole = headers.get("Sec-Fetch-Dest", "document") == "document"
    return whole and headers.get("Sec-Fetch-Mode") == "navigate"


def without_port(text: str) -> str | None:
    """The address in an entry of `X-Forwarded-For`; None where there is none."""
    try:
        host = text if is_address(text) else urlsplit(f"//{text}").hostname or ""
        found = ip_address(host.partition("%")[0])  # A zone may be any text.
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)  # As a text, one that is mapped differs between Pythons.


def without_default_port(host: str) -> str:
    """A `Host` as an origin would have it."""
    return host.removesuffix(":443").removesuffix(":80")
