"""The first bytes of a connection: a handshake is answered at once, as aiohttp would answer it."""

import asyncio
import re
from typing import Any

import pytest
from aiohttp import WSMsgType

from server.app import App
from server.doors.fast_handshake import begins_session
from tests.conftest import Serve
from tests.support.clients import PATIENCE
from tests.support.servers import eventually
from tests.support.wire import KEY, REQUEST, Wire, masked, wire

HEAD = REQUEST.decode()
VARIANTS = {
    "as it is": HEAD,
    "with more in the query": HEAD.replace("EIO=4&", "t=abc&EIO=4&"),
    "with an empty sid": HEAD.replace("websocket HTTP", "websocket&sid= HTTP"),
    "in small letters": HEAD.lower().replace(KEY.lower(), KEY).replace("get /", "GET /", 1)
    .replace("eio=4", "EIO=4").replace("http/1.1", "HTTP/1.1"),
    "with several options": HEAD.replace("Connection: U", "Connection: keep-alive, U"),
    "of a page of this server": HEAD.replace("Host: x", "Host: x\r\nOrigin: http://x"),
    "of an old version": HEAD.replace("HTTP/1.1", "HTTP/1.0"),
    "of a page of another site": HEAD.replace("Host: x", "Host: x\r\nOrigin: http://evil.example"),
    "of a page that hides": HEAD.replace(
        "Host: x", "Host: x\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: websocket"
    ),
    "to a name that is led here": HEAD.replace("Host: x", "Host: evil.example"),
    "without a key": HEAD.replace("Sec-WebSocket-Key", "X-Key"),
    "with a short key": HEAD.replace(KEY, "c2hvcnQ="),
    "of another version of WebSockets": HEAD.replace("Version: 13", "Version: 8"),
    "of another version of Engine.IO": HEAD.replace("EIO=4", "EIO=3"),
    "with two versions of Engine.IO": HEAD.replace("EIO=4", "EIO=4&EIO=4"),
    "of a transport that there is not": HEAD.replace("=websocket", "=carrier-pigeon"),
    "with a wrong number for JSONP": HEAD.replace("EIO=4&", "EIO=4&j=x&"),
    "of a session that is gone": HEAD.replace("websocket HTTP", "websocket&sid=gone HTTP"),
    "to something else": HEAD.replace("Upgrade: websocket", "Upgrade: h2c"),
    "twice": HEAD.replace("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: websocket"),
    "that nothing connects": HEAD.replace("Connection: Upgrade", "Connection: close"),
    "that closes and connects": HEAD.replace("Connection: ", "Connection: close\r\nConnection: "),
    "that nearly connects": HEAD.replace("Connection: ", "Connection: re"),
    "that nobody asks for": HEAD.replace("Upgrade: websocket\r\nConnection: Upgrade\r\n", ""),
    "with a body": HEAD.replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody"),
    "that expects something": HEAD.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"),
    "with a header too long": HEAD.replace("Host: x", f"Host: x\r\nX: {'x' * 9000}"),
    "with too many headers": HEAD.replace("Host: x\r\n", "Host: x\r\n" + "X: x\r\n" * 200),
    "with a line that is none": HEAD.replace("Host: x", "Host: x\r\nnonsense"),
    "of two lengths": HEAD.replace("Host: x", "Host: x\r\nContent-Length: 1\r\nContent-Length: 2"),
    "of another path": HEAD.replace("/socket.io/?", "/socket.io/x?"),
    "with an encoded path": HEAD.replace("/socket.io/?", "/socket%2eio/?"),
}  # fmt: skip
"""What a client may begin with, by how it differs from what clients do."""


def seen(answer: bytes) -> str:
    """An answer without what differs each time."""
    text = answer.decode("utf-8", "replace")
    return re.sub(r'"sid":"[^"]+"', '"sid":""', re.sub(r"Date: [^\r]+", "Date:", text))


async def answer(app: App, request: str, *, whole: bool) -> str:
    """What a request is answered, after which the client says goodbye.

    One that does not come as a whole is left to aiohttp.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    data = request.encode()
    if not whole:
        writer.write(data[:10])
        await eventually(lambda: http(app).connections)
        data = data[10:]
    writer.write(data)
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 100 " in head:
            head += await reader.readuntil(b"\r\n\r\n")
        if b" 101 " in head:
            writer.write(masked(WSMsgType.CLOSE, b""))
        else:
            writer.write_eof()
        rest = await reader.read()
    writer.close()
    await eventually(lambda: not http(app).connections and not app.sockets.driver.connections)
    return seen(head + rest)


def http(app: App):  # type: ignore[no-untyped-def]
    """The server of aiohttp."""
    assert app._runner.server is not None
    return app._runner.server


@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_request_is_answered_as_aiohttp_answers_it(app: App, variant: str) -> None:
    refusals = []
    answers = []
    for whole in (True, False):
        before = app.counts.refusals.copy()
        answers.append(await answer(app, VARIANTS[variant], whole=whole))
        refusals.append(app.counts.refusals - before)
    assert answers[0] == answers[1]
    assert " 500 " not in answers[0]
    assert refusals[0] == refusals[1]


async def test_aiohttp_does_not_see_the_handshakes_of_those_who_come_to_stay(app: App) -> None:
    async with wire(app), wire(app):
        assert http(app).requests_count == 0
        assert app.connections.total == 0
        assert app.events.clients == app.limits.clients.total == 2
    await eventually(lambda: app.limits.clients.total == 0)
    assert not app.sockets.eio.sockets and not app.sockets.environ


async def test_what_comes_with_a_handshake_is_heard(app: App) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    hello = masked(WSMsgType.TEXT, b'40{"rooms":[]}') + masked(WSMsgType.TEXT, b'427["status"]')
    writer.write(REQUEST + hello[:-5])
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    client = Wire(reader, writer)
    assert (await client.text()).startswith("0{")
    assert (await client.text()).startswith("40{")
    writer.write(hello[-5:])
    assert (await client.text()).startswith("437[")
    writer.close()


async def test_a_handshake_is_refused_above_each_cap_and_counted_once(serve: Serve) -> None:
    settings = {"trusted_proxies": 1, "auth": "open"}
    caps: list[tuple[dict[str, Any], str]] = [
        ({"max_connections_address": 1}, "connections"),
        ({"connect_rate": 0.01}, "connect_rate"),
    ]
    for cap, reason in caps:
        app = await serve(**settings, **cap)
        writers = []
        for number in range(4):
            source = f"Host: x\r\nX-Forwarded-For: 6.6.6.6, 1.1.1.{number // 3}"
            reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
            writers.append(writer)
            writer.write(HEAD.replace("Host: x", source).encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            refused = app.counts.refusals[reason]
            if number in (0, 3):
                assert b" 101 " in head
            else:
                assert b" 429 " in head and refused == number
                assert http(app).requests_count == refused
        assert app.limits.clients.total == 2
        for writer in writers:
            writer.close()


async def test_websockets_may_be_off(serve: Serve) -> None:
    app = await serve(transports="polling")
    assert "Invalid transport" in await answer(app, HEAD, whole=True)


async def test_a_connection_that_has_said_nothing_ends_with_the_server(serve: Serve) -> None:
    app = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    await eventually(lambda: app.connections.total == 1)
    await app.stop()
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    await eventually(lambda: app.connections.total == 0)
    writer.close()


@pytest.mark.parametrize(
    ("query", "begins"),
    [
        ("EIO=4&transport=websocket", True),
        ("transport=websocket&EIO=4&token=a&t=1", True),
        ("EIO=4&transport=websocket&sid=", True),
        ("EIO=4&transport=websocket&sid=a", False),
        ("EIO=4&transport=websocket&j=0", False),
        ("EIO=4&transport=polling", False),
        ("EIO=4&transport=websocket&transport=polling", False),
        ("EIO=4&transport=websocket#a", False),
        ("EIO=3&transport=websocket", False),
        ("transport=websocket", False),
        ("", False),
    ],
)
def test_what_begins_a_session(query: str, begins: bool) -> None:
    assert begins_session(f"/socket.io/?{query}") is begins
