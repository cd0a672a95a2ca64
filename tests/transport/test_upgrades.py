"""Which requests become a WebSocket, and how the others are answered: RFC 6455 and RFC 9110."""

import asyncio

import pytest

from server.app import App
from tests.conftest import Serve
from tests.support.wire import KEY, REQUEST

PATHS = ["/ws?rooms=", "/socket.io/?EIO=4&transport=websocket"]


async def answer_to(app: App, request: bytes) -> bytes:
    """The head of the response to a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(request)
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


def request_of(path: str, *changes: tuple[bytes, bytes]) -> bytes:
    request = REQUEST.replace(b"/socket.io/?EIO=4&transport=websocket", path.encode())
    for old, new in changes:
        assert old in request
        request = request.replace(old, new)
    return request


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "upgrade",
    ["websocket", "WebSocket", "h2c, websocket", "websocket, h2c", "h2c\r\nUpgrade: websocket"],
)
async def test_an_upgrade_may_offer_more_than_websockets(
    serve: Serve, path: str, upgrade: str
) -> None:
    app = await serve()
    request = request_of(path, (b"Upgrade: websocket", f"Upgrade: {upgrade}".encode()))
    head = await answer_to(app, request)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nupgrade: websocket\r\n" in head.lower()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "change",
    [
        (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"),
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"Upgrade: websocket", b"Upgrade: websocket2"),
    ],
)
async def test_what_is_no_upgrade_here_is_ignored(
    serve: Serve, path: str, change: tuple[bytes, bytes]
) -> None:
    app = await serve()
    head = await answer_to(app, request_of(path, change))
    assert head.split(b" ")[1] == b"400"
    assert app.sockets.eio.sockets == {} and app.web.clients == 0


async def test_a_page_is_served_whatever_upgrade_is_offered(app: App) -> None:
    for change in ((b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"), (b"Version: 13", b"Version: 8")):
        head = await answer_to(app, request_of("/healthz", change))
        assert head.split(b" ")[1] == b"200"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["é".encode(), b"short", b"", b"=" * 24])
async def test_a_key_that_is_none_is_refused(
    serve: Serve, caplog: pytest.LogCaptureFixture, path: str, key: bytes
) -> None:
    app = await serve()
    head = await answer_to(app, request_of(path, (KEY.encode(), key)))
    assert head.split(b" ")[1] == b"400"
    assert not caplog.records


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("version", [b"8", b"7", b"14", b"13, 8", b""])
async def test_another_version_is_told_which_one_there_is(
    serve: Serve, path: str, version: bytes
) -> None:
    app = await serve()
    head = await answer_to(app, request_of(path, (b"Version: 13", b"Version: " + version)))
    assert head.split(b" ")[1] == b"426"
    assert b"\r\nsec-websocket-version: 13\r\n" in head.lower()
    assert b"\r\nupgrade: websocket\r\n" in head.lower()
    assert app.sockets.eio.sockets == {} and app.web.clients == 0
