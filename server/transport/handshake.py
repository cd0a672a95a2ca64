"""The handshake of a WebSocket, and how its connection is taken over from aiohttp."""

import asyncio
import base64
import hashlib
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections.abc import Mapping

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, HttpVersion, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

from server.transport.frames import Buffer, SendBytes

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What a server adds to the key of a client: RFC 6455, section 4.2.2."""
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)
VERSION = "13"
"""The version of WebSockets that there is: RFC 6455, section 4.1."""
Headers = CIMultiDict[str] | CIMultiDictProxy[str]


def upgrade_in(data: bytes) -> tuple[RawRequestMessage, bytes] | None:
    """The head of a request in the first bytes of a connection, and what follows it.

    None where they are not a whole request with an upgrade, as aiohttp reads it.
    """
    loop = asyncio.get_running_loop()
    try:
        requests, upgrades, rest = HttpRequestParser(BaseProtocol(loop), loop, 2**16).feed_data(
            data
        )
    except HttpProcessingError:
        return None
    if not upgrades or len(requests) != 1 or not requests[0][1].is_eof():
        return None
    return requests[0][0], rest


def handshake(headers: Mapping[str, str]) -> bytes | None:
    """The answer to a client's key, None when a request is not a WebSocket's."""
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        nonce = base64.b64decode(key, validate=True)
    except ValueError:  # Of binascii, too.
        return None
    if len(nonce) != 16 or headers.get("Sec-WebSocket-Version") != VERSION:
        return None
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest())


def asks_for_websocket(headers: Headers, version: HttpVersion) -> bool:
    """Whether a request offers to go on as a WebSocket, alone or among others.

    One of HTTP/1.0 may not be heard: RFC 9110, section 7.8.
    """
    offered = ",".join(headers.getall("Upgrade", [])).lower().split(",")
    return version >= HttpVersion11 and "websocket" in map(str.strip, offered)


def with_plain_upgrade(request: web.Request) -> web.Request:
    """A request as it is, but with an `Upgrade` to a WebSocket alone, or to nothing.

    Raises `web.HTTPUpgradeRequired` for a version of WebSockets that is not known here: RFC 6455,
    section 4.4.
    """
    if "Upgrade" not in request.headers:
        return request
    headers = CIMultiDict(request.headers)
    if not asks_for_websocket(headers, request.version):
        del headers["Upgrade"]
    elif headers.get("Sec-WebSocket-Version", VERSION) != VERSION:
        known = {"Sec-WebSocket-Version": VERSION, "Upgrade": "websocket", "Connection": "upgrade"}
        raise web.HTTPUpgradeRequired(headers=known)
    elif handshake(headers) is None:
        raise web.HTTPBadRequest(text="Sec-WebSocket-Key has to be 16 bytes in Base64")
    else:
        headers["Upgrade"] = "websocket"
    return request if headers == request.headers else request.clone(headers=headers)


def ignores_closes(headers: Mapping[str, str]) -> bool:
    """Whether a client notices no close frame: that of Java, on most versions of OkHttp."""
    return headers.get("User-Agent", "").startswith("okhttp/")


def take_over(request: web.BaseRequest, protocol: asyncio.BufferedProtocol) -> bytes:
    """Take a request's connection from aiohttp, for good, and let `protocol` have it.

    Returns what the client has sent already, after the request.
    """
    handler, transport = request.protocol, request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    early: bytes = handler._message_tail
    handler.transport = None  # Else it would close the connection that it loses.
    handler.connection_lost(None)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    transport.resume_reading()
    return early


def sender(transport: asyncio.Transport) -> SendBytes:
    """What sends bytes while none wait in the transport, and tells how many it could send."""
    if isinstance(transport, _SelectorSocketTransport):
        # Straight to the kernel; may raise `OSError`.
        send: SendBytes = transport.get_extra_info("socket")._sock.send
        return send

    def write(data: Buffer) -> int:
        transport.write(data)
        return len(data)

    return write
