"""How much clients and addresses may ask for, and that all others are served meanwhile."""

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from server.access.rate_limits import ConnectionQuota, TokenBucket
from server.app import App
from server.errors import RateLimited
from tests.conftest import Connect, Serve
from tests.support.clients import CLIENTS, PATIENCE, HttpClient
from tests.support.servers import command, eventually
from tests.support.tokens import SECRET, token
from tests.support.wire import REQUEST, masked

HEARING = [kind for kind in CLIENTS if CLIENTS[kind].hears]
OPEN = "/socket.io/?EIO=4&transport=polling"


def code(answer: dict[str, Any]) -> str | None:
    return None if answer["ok"] else answer["error"]["code"]


def proxied(address: str) -> dict[str, str]:
    """The headers of a request that a proxy hands on."""
    return {"X-Forwarded-For": address}


def test_a_bucket_takes_from_its_parent_too() -> None:
    parent = TokenBucket(1, limit="RATE_LIMIT_ADDRESS=1")
    first, second = TokenBucket(10, parent=parent), TokenBucket(10, parent=parent)
    first.take(0)
    second.take(0)
    for bucket in (first, second):
        with pytest.raises(RateLimited, match="RATE_LIMIT_ADDRESS=1"):
            bucket.take(0)
    first.take(1)


def test_a_crowd_has_room_again_when_somebody_leaves() -> None:
    crowd = ConnectionQuota(3, 2)
    crowd.enter("a")
    crowd.enter("a")
    assert not crowd.admits("a") and crowd.admits("b")
    crowd.enter("b")
    assert not crowd.admits("c")
    crowd.leave("a")
    assert crowd.admits("a") and crowd.admits("c")
    unbounded = ConnectionQuota(0, 0)
    unbounded.enter("a")
    assert unbounded.admits("a")


async def test_an_address_is_limited_beside_each_of_its_clients(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(rate_limit=10, rate_limit_address=12)
    clients = [await connect(app.url, "websocket", rooms=[]) for _ in range(3)]
    answers = [await client.command("status") for client in clients for _ in range(15)]
    limited = [answer["error"]["message"] for answer in answers if not answer["ok"]]
    assert 45 - len(limited) < 40
    assert any("RATE_LIMIT_ADDRESS=12 commands a second" in message for message in limited)


async def test_connects_are_limited_by_address(serve: Serve) -> None:
    app = await serve(connect_rate=3, trusted_proxies=1, auth="open")
    async with aiohttp.ClientSession(app.url) as session:
        for path in (OPEN, "/ws"):
            headers = proxied(f"1.1.1.{len(path)}")
            responses = [await session.get(path, headers=headers) for _ in range(8)]
            assert [response.status for response in responses[-2:]] == [429, 429]
            assert responses[-1].headers["Retry-After"] == "1"
            assert (await responses[-1].json())["error"]["code"] == "rate_limited"
        async with session.get(OPEN, headers=proxied("2.2.2.2")) as response:
            assert response.status == 200
            sid = json.loads((await response.text())[1:])["sid"]
        for _ in range(20):  # A session that is open already does not connect again.
            await session.post(f"{OPEN}&sid={sid}", data="3", headers=proxied("2.2.2.2"))
        async with session.get(OPEN, headers=proxied("2.2.2.2")) as response:
            assert response.status == 200


@pytest.mark.parametrize("kind", HEARING)
async def test_connections_are_capped(serve: Serve, connect: Connect, kind: str) -> None:
    app = await serve(max_connections=2)
    first = await connect(app.url, kind)
    await connect(app.url, "websocket")
    assert app.limits.clients.total == 2
    async with aiohttp.ClientSession(app.url) as session:
        for path in (OPEN, f"{OPEN}&sid=", "/ws"):
            async with session.get(path) as response:
                assert response.status == 429
                assert (await response.json())["error"]["code"] == "too_many"
    await first.close()
    await eventually(lambda: app.limits.clients.total == 1)
    await connect(app.url, kind)


async def test_connections_of_one_address_are_capped(serve: Serve) -> None:
    app = await serve(max_connections_address=1, trusted_proxies=1, auth="open")
    async with aiohttp.ClientSession(app.url) as session:
        for address, status in [("1.1.1.1", 200), ("1.1.1.1", 429), ("2.2.2.2", 200)]:
            async with session.get(OPEN, headers=proxied(address)) as response:
                assert response.status == status


@pytest.mark.parametrize("kind", HEARING)
async def test_every_connection_is_counted_out_again(app: App, connect: Connect, kind: str) -> None:
    for _ in range(3):
        client = await connect(app.url, kind)
        assert app.limits.clients.total == 1
        await client.close()
        await eventually(lambda: app.limits.clients.total == 0)


async def test_connections_of_http_are_capped(serve: Serve) -> None:
    app = await serve(max_connections=3)
    sockets = [await asyncio.open_connection("127.0.0.1", app.port) for _ in range(6)]
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()
    sockets[0][1].close()
    async with aiohttp.ClientSession(app.url) as session:
        await eventually(lambda: app.connections.total < 6)
        async with session.get("/api/jobs") as response:
            assert response.status == 200
    for _, writer in sockets:
        writer.close()


@pytest.mark.slow
async def test_who_does_not_read_an_answer_is_cut_off(serve: Serve) -> None:
    app = await serve(slow_timeout=0.2, rate_limit=0)
    starts = (command(app, "request", connid=str(n), time=60, note="x" * 500) for n in range(5000))
    await asyncio.gather(*starts)
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    door.connect(("127.0.0.1", app.port))
    _, writer = await asyncio.open_connection(sock=door)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /api/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    await eventually(lambda: app.connections.total == 1)
    await eventually(lambda: app.connections.total == 0)
    writer.close()


async def test_an_upgrade_that_only_half_asks_for_one_is_refused(app: App) -> None:
    async with aiohttp.ClientSession(app.url) as session:
        for transport in ("websocket", "polling"):
            path = f"/socket.io/?EIO=4&transport={transport}"
            async with session.get(path, headers={"Upgrade": "websocket"}) as response:
                assert response.status == 400
    assert not app.sockets.eio.sockets


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        b"POST /socket.io/?EIO=4&transport=polling&sid=SID HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 100\r\n\r\n4",
    ],
)
async def test_a_request_that_does_not_arrive_is_cut_off(serve: Serve, said: bytes) -> None:
    app = await serve(request_timeout=0.2)
    async with aiohttp.ClientSession(app.url) as session:
        sid = json.loads((await (await session.get(OPEN)).text())[1:])["sid"]
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(said.replace(b"SID", sid.encode()))
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()
    await eventually(lambda: app.connections.total == 0)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("said", [None, '40{"token":"bad"}'])
async def test_who_does_not_say_who_it_is_has_to_go(
    serve: Serve, connect: Connect, transport: str, said: str | None
) -> None:
    app = await serve(auth_secret=SECRET, connect_timeout=0.3)
    client = await connect(app.url, "python", token=token())
    path = f"/socket.io/?EIO=4&transport={transport}"
    async with aiohttp.ClientSession(app.url) as session:
        if transport == "websocket":
            socket = await session.ws_connect(path)
            await socket.receive_str()
            if said:
                await socket.send_str(said)
                assert (await socket.receive_str()).startswith("44")
            assert (await socket.receive(timeout=PATIENCE)).data == 1012
            await socket.close()
        else:
            path += f"&sid={json.loads((await (await session.get(path)).text())[1:])['sid']}"
            if said:
                await session.post(path, data=said)
        await eventually(lambda: app.limits.clients.total == 1)
    assert (await client.command("status"))["ok"]


async def test_sign_ins_that_fail_are_limited_and_lock_nobody_out(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    app = await serve(auth_secret=SECRET, failure_limit=3)
    guesser = await connect(app.url, "http", token="guess")
    assert isinstance(guesser, HttpClient)
    codes = [code(await guesser.command("status")) for _ in range(5)]
    assert codes == ["unauthorized"] * 3 + ["rate_limited"] * 2
    assert guesser.status == 429
    assert caplog.text.count("sign-in from 127.0.0.1 via http failed") == 3
    neighbour = await connect(app.url, "http", token=token())
    assert (await neighbour.command("status"))["ok"]


async def test_limits_may_be_off(serve: Serve, connect: Connect) -> None:
    app = await serve(auth_secret=SECRET, rate_limit=0, failure_limit=0)
    guesser = await connect(app.url, "http", token="guess")
    codes = {code(await guesser.command("status")) for _ in range(100)}
    assert codes == {"unauthorized"}


@pytest.mark.parametrize("path", ["/socket.io/?EIO=4&transport=websocket", "/ws?rooms="])
async def test_who_floods_is_read_no_more_for_a_while(
    serve: Serve, connect: Connect, path: str
) -> None:
    app = await serve(rate_limit=50)
    other = await connect(app.url, "websocket", rooms=[])
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(REQUEST.replace(b"/socket.io/?EIO=4&transport=websocket", path.encode()))
    writer.write(masked(1, b'40{"rooms":[]}'))
    frame = masked(1, b'42["status"]' if "EIO" in path else b'{"route":"status"}')
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            writer.write(frame * 1000)
            sent += 1000
            await writer.drain()

    async def read() -> None:
        while await reader.read(2**16):
            pass

    tasks = [asyncio.create_task(flood()), asyncio.create_task(read())]
    await eventually(lambda: app.counts.refusals["rate_limited"] >= 100)
    for _ in range(50):
        assert (await other.command("status"))["ok"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # What it has sent is not there to be refused: it is still in its own buffers, and the kernel's.
    assert app.counts.refusals["rate_limited"] < sent
    writer.close()
