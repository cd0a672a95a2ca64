"""The driver in any `socketio.AsyncServer`: what Engine.IO 4 and Socket.IO 5 say, at the wire."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import socketio
from aiohttp import WSMsgType, web

from server.transport.byte_queue import MOST_POLLED
from server.transport.driver import Driver, install
from tests.support.clients import PATIENCE
from tests.support.servers import eventually

POLLING = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[socketio.AsyncServer, Driver, str]]:
    """A plain server with the driver, which sends back what it is sent."""
    sio = socketio.AsyncServer(async_mode="aiohttp", namespaces=["/", "/known"], **options)
    driver = install(sio)
    sio.on("echo", lambda sid, *args: args)
    app = web.Application()
    sio.attach(app)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield sio, driver, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await driver.stop(0)
        await runner.cleanup()


@pytest.fixture
async def plain() -> AsyncIterator[tuple[socketio.AsyncServer, Driver, aiohttp.ClientSession]]:
    async with serving() as (sio, driver, url), aiohttp.ClientSession(url) as session:
        yield sio, driver, session


Plain = tuple[socketio.AsyncServer, Driver, aiohttp.ClientSession]


async def get(session: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with session.get(path) as response:
        return response.status, await response.text()


async def post(session: aiohttp.ClientSession, path: str, data: str) -> tuple[int, str]:
    async with session.post(path, data=data) as response:
        return response.status, await response.text()


async def opened(session: aiohttp.ClientSession) -> str:
    """Open a session of long polling; its address."""
    _, text = await get(session, POLLING)
    return f"{POLLING}&sid={json.loads(text[1:])['sid']}"


async def polling(driver: Driver, session: aiohttp.ClientSession, path: str) -> asyncio.Task[Any]:
    """A poll that is under way."""
    poll = asyncio.create_task(get(session, path))
    await eventually(lambda: driver._polling._polls)
    return poll


async def moved(session: aiohttp.ClientSession, path: str) -> aiohttp.ClientWebSocketResponse:
    """The WebSocket that a session of long polling has moved to."""
    socket = await session.ws_connect(path.replace("polling", "websocket"))
    await socket.send_str("2probe")
    assert await socket.receive_str() == "3probe"
    await socket.send_str("5")
    await socket.send_str("40")
    assert (await socket.receive_str()).startswith("40{")
    return socket


@pytest.mark.parametrize(("interval", "said"), [(0.3, 300), (1.25, 1250), ((1, 0.5), 1500)])
async def test_intervals_are_told_in_milliseconds(interval: Any, said: int) -> None:
    async with (
        serving(ping_interval=interval, ping_timeout=0.2) as (_, _, url),
        aiohttp.ClientSession(url) as session,
    ):
        _, text = await get(session, POLLING)
        async with session.ws_connect(WEBSOCKET) as socket:
            for opening in (text, await socket.receive_str()):
                told = json.loads(opening[1:])
                assert (told["pingInterval"], told["pingTimeout"]) == (said, 200)
                assert told["maxPayload"] == 1_000_000


@pytest.mark.parametrize("path", ["?EIO=4", "?EIO=4&transport=abc", "?transport=polling", "?EIO=3"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_handshake_without_what_it_needs_is_answered_400(
    plain: Plain, path: str, method: str
) -> None:
    sio, _, session = plain
    async with session.request(method, f"/socket.io/{path}") as response:
        assert response.status == 400
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await session.ws_connect(f"/socket.io/{path}")
    assert refused.value.status == 400
    assert not sio.eio.sockets


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
async def test_a_session_is_opened_by_no_other_method(plain: Plain, method: str) -> None:
    async with plain[2].request(method, POLLING) as response:
        assert response.status == 400


async def test_a_post_is_answered_ok(plain: Plain) -> None:
    _, _, session = plain
    path = await opened(session)
    assert await post(session, path, '40\x1e421["echo",1]\x1e422["echo",2]') == (200, "ok")
    heard = ""
    while "432" not in heard:
        heard += (await get(session, path))[1] + "\x1e"
    assert heard.endswith("\x1e431[1]\x1e432[2]\x1e")


async def test_packets_and_their_attachments_come_back(plain: Plain) -> None:
    _, _, session = plain
    path = await opened(session)
    event = '451-7["echo",{"_placeholder":true,"num":0}]\x1ebAQIDBA=='
    assert await post(session, path, f"40\x1e{event}") == (200, "ok")
    heard = ""
    while "bAQ" not in heard:
        heard += (await get(session, path))[1] + "\x1e"
    assert heard.endswith('461-7[{"_placeholder":true,"num":0}]\x1ebAQIDBA==\x1e')


@pytest.mark.parametrize("body", ["abc", "", "0", "5", "9", "d="])
async def test_a_post_of_no_packets_ends_the_session(plain: Plain, body: str) -> None:
    sio, _, session = plain
    path = await opened(session)
    empty = body in ("", "d=")  # Nothing, which is no harm.
    assert (await post(session, path, body))[0] == (200 if empty else 400)
    assert bool(sio.eio.sockets) == empty
    if not empty:
        assert (await get(session, path))[0] == 400


async def test_a_form_of_jsonp_is_a_payload(plain: Plain) -> None:
    _, _, session = plain
    path = await opened(session)
    assert await post(session, path, "d=40%1E421%5B%22echo%22%5D") == (200, "ok")
    assert (await get(session, path))[1].startswith("40{")


async def test_a_second_poll_ends_the_session(plain: Plain) -> None:
    _, driver, session = plain
    path = await opened(session)
    first = await polling(driver, session, path)
    assert (await get(session, path))[0] == 400
    assert await first == (200, "1")
    assert (await get(session, path))[0] == 400


async def test_a_poll_that_is_broken_off_ends_the_session(plain: Plain) -> None:
    sio, driver, session = plain
    path = await opened(session)
    reasons: asyncio.Queue[str] = asyncio.Queue()
    sio.on("disconnect", lambda sid, reason: reasons.put_nowait(reason))
    await post(session, path, "40")
    await get(session, path)
    poll = await polling(driver, session, path)
    poll.cancel()
    assert await asyncio.wait_for(reasons.get(), PATIENCE) == sio.reason.TRANSPORT_CLOSE
    assert (await get(session, path))[0] == 400
    assert not driver._polling._polls


async def test_polls_over_one_connection_after_the_other_go_on(plain: Plain) -> None:
    sio, _, session = plain
    path = await opened(session)
    for number in range(3):
        async with aiohttp.ClientSession(session._base_url) as other:
            await post(other, path, "40" if number == 0 else f'42{number}["echo"]')
            heard = (await get(other, path))[1]
            assert heard.startswith("40{" if number == 0 else f"43{number}[")
    assert len(sio.eio.sockets) == 1


async def test_a_poll_is_answered_no_more_than_clients_take(plain: Plain) -> None:
    _, _, session = plain
    path = await opened(session)
    events = "\x1e".join(f'42{number}["echo"]' for number in range(50))
    await post(session, path, f"40\x1e{events}")
    heard: list[str] = []
    while len(heard) < 51:
        packets = (await get(session, path))[1].split("\x1e")
        assert len(packets) <= MOST_POLLED
        heard += packets
    assert heard[1:] == [f"43{number}[]" for number in range(50)]


async def test_a_client_that_closes_ends_its_poll_with_a_noop(plain: Plain) -> None:
    _, driver, session = plain
    path = await opened(session)
    poll = await polling(driver, session, path)
    assert await post(session, path, "1") == (200, "ok")
    assert await poll == (200, "6")
    assert (await get(session, path))[0] == 400


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_pings_come_one_after_the_other_and_who_does_not_answer_is_ended(
    transport: str,
) -> None:
    async with (
        serving(ping_interval=0.05, ping_timeout=1) as (sio, _, url),
        aiohttp.ClientSession(url) as session,
    ):
        if transport == "polling":
            path = await opened(session)
            for _ in range(3):
                assert await get(session, path) == (200, "2")
                assert await post(session, path, "3") == (200, "ok")
            assert await get(session, path) == (200, "2")
            assert (await get(session, path))[0] == 400
        else:
            async with session.ws_connect(WEBSOCKET) as socket:
                await socket.receive_str()
                for _ in range(3):
                    assert await socket.receive_str() == "2"
                    await socket.send_str("3")
                assert await socket.receive_str() == "2"
                assert (await socket.receive()).data == 1012
        await eventually(lambda: not sio.eio.sockets)


async def test_a_session_that_has_moved_is_polled_no_more(plain: Plain) -> None:
    _, _, session = plain
    path = await opened(session)
    socket = await moved(session, path)
    assert (await get(session, path))[0] == 400
    assert (await post(session, path, "40"))[0] == 400
    await socket.send_str('421["echo",1]')
    assert await socket.receive_str() == "431[1]"
    await socket.close()


async def test_a_second_websocket_of_a_session_is_closed(plain: Plain) -> None:
    _, _, session = plain
    path = await opened(session)
    socket = await moved(session, path)
    async with session.ws_connect(path.replace("polling", "websocket")) as second:
        closing = await second.receive()
        assert (closing.type, closing.data) == (WSMsgType.CLOSE, 1008)
    await socket.send_str('421["echo",1]')
    assert await socket.receive_str() == "431[1]"
    await socket.close()


async def test_a_poll_that_waits_ends_with_a_noop_when_its_client_moves(plain: Plain) -> None:
    _, driver, session = plain
    path = await opened(session)
    poll = await polling(driver, session, path)
    async with session.ws_connect(path.replace("polling", "websocket")) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        assert await poll == (200, "6")
        assert await get(session, path) == (200, "6")
        await socket.send_str("5")
        await socket.send_str("40")
        assert (await socket.receive_str()).startswith("40{")


@pytest.mark.parametrize("namespace", ["/unknown", "/unknown,"])
async def test_an_unknown_namespace_is_answered_with_an_object(
    plain: Plain, namespace: str
) -> None:
    async with plain[2].ws_connect(WEBSOCKET) as socket:
        await socket.receive_str()
        await socket.send_str(f"40{namespace}")
        assert await socket.receive_str() == '44/unknown,{"message":"Invalid namespace"}'
        await socket.send_str("40/known,")
        assert (await socket.receive_str()).startswith("40/known,{")


async def test_pages_of_other_origins_may_read_what_the_driver_answers() -> None:
    origin = "https://dashboard.example"
    async with (
        serving(cors_allowed_origins=[origin]) as (_, _, url),
        aiohttp.ClientSession(url, headers={"Origin": origin}) as session,
    ):
        path = await opened(session)
        for data, status in (("40", 200), ("abc", 400), ("40", 400)):
            async with session.post(path, data=data) as response:
                assert response.status == status
                assert response.headers["Access-Control-Allow-Origin"] == origin
        async with session.options(path) as response:
            assert response.status == 200
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
