"""What a client sends beside commands: little of it is read, and nothing of it stays."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import WSMsgType

from server.access.rate_limits import TokenBucket
from server.app import App
from server.errors import RateLimited
from server.transport.polling import MOST_POSTS, posts_of
from server.transport.socketio_server import MOST_CONNECTS
from tests.conftest import Connect, Serve
from tests.support.servers import command, eventually
from tests.support.wire import REQUEST, Wire, masked, wire

POLL = "/socket.io/?EIO=4&transport=polling"
SLOWLY = 0.001
"""A rate of control messages of which the second is not read within a test."""


async def polling(session: aiohttp.ClientSession) -> str:
    """The path of a new session of long polling."""
    async with session.get(POLL) as response:
        return f"{POLL}&sid={json.loads((await response.text())[1:])['sid']}"


def test_what_an_answer_costs_is_charged_to_the_address() -> None:
    parent = TokenBucket(10)
    TokenBucket(10, parent=parent).charge(20)
    with pytest.raises(RateLimited):
        parent.take(0)


def test_a_bucket_tells_how_long_to_read_no_more() -> None:
    bucket = TokenBucket(2, burst=10)
    assert bucket.count(10, now=0) == 0
    assert bucket.count(4, now=0) == 2
    assert bucket.count(1, now=1) == 1.5
    assert TokenBucket(0).count(1000, now=0) == 0


@pytest.mark.slow
async def test_a_plain_websocket_that_leaves_amid_its_answers_is_let_go_of(serve: Serve) -> None:
    app = await serve(rate_limit=0, slow_timeout=0.2, max_backlog=65536, max_pipeline=16)
    for number in range(100):
        await command(app, "request", connid=str(number), time=60, note="x" * 500)
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(REQUEST.replace(b"/socket.io/?EIO=4&transport=websocket", b"/ws"))
    await reader.readuntil(b"\r\n\r\n")
    writer.write(masked(WSMsgType.TEXT, b'{"route":"status"}') * 2000)
    await eventually(
        lambda: any(c.above_high_watermark(app.config.max_backlog) for c in app.web._clients)
    )
    writer.transport.abort()
    await eventually(lambda: app.web.clients == 0)
    assert app.rooms.clients == app.limits.clients.total == 0


async def test_a_session_that_connects_again_and_again_is_cut(app: App) -> None:
    async with wire(app) as client:
        for _ in range(MOST_CONNECTS - 1):
            client.send(WSMsgType.TEXT, b"40")
            assert (await client.text()).startswith("44")
        client.send(WSMsgType.TEXT, b"40")
        assert '42["closing",{"code":"too_many",' in await client.text()
        assert await client.text() == "1"
    await eventually(lambda: app.limits.clients.total == 0)


async def test_a_post_of_many_connects_is_cut_short(app: App) -> None:
    async with aiohttp.ClientSession(app.url) as session:
        path = await polling(session)
        async with session.post(path, data="\x1e".join(["40"] * 20_000)) as response:
            assert response.status == 200
        async with session.get(path) as response:
            assert (await response.text()).count("\x1e44") < MOST_CONNECTS
        async with session.get(path) as response:
            assert response.status == 400
    assert app.limits.clients.total == 0


async def test_pongs_of_long_polling_without_a_ping_lead_to_no_pings(serve: Serve) -> None:
    app = await serve(control_rate=0)
    async with aiohttp.ClientSession(app.url) as session:
        path = await polling(session)
        async with session.post(path, data="\x1e".join(["3"] * 1000)) as response:
            assert response.status == 200
    assert len(app.sockets.driver.heartbeat._pings) == 1


@pytest.mark.parametrize("packet", ["3", "41", "43[]", '42["status",{}]', "40/other,"])
async def test_a_post_of_what_is_no_command_takes_its_time(serve: Serve, packet: str) -> None:
    app = await serve(control_rate=SLOWLY)
    async with aiohttp.ClientSession(app.url) as session:
        path = await polling(session)
        posting = asyncio.create_task(session.post(path, data="\x1e".join([packet] * 5)))
        (socket,) = app.sockets.eio.sockets.values()
        await eventually(lambda: hasattr(socket, "controls") and socket.controls._left < 0)
        await polling(session)
        assert not posting.done()
        posting.cancel()


async def test_a_second_post_of_a_session_is_read_after_the_first(serve: Serve) -> None:
    app = await serve(control_rate=SLOWLY)
    async with aiohttp.ClientSession(app.url) as session:
        path = await polling(session)
        posts = [asyncio.create_task(session.post(path, data="3\x1e" * 9 + "3")) for _ in range(5)]
        (socket,) = app.sockets.eio.sockets.values()
        await eventually(lambda: hasattr(socket, "posts") and len(socket.posts._waiters or ()) == 4)
        await polling(session)
        # The first packet is within the burst, the second has its sender wait.
        assert socket.controls._left > -2
        for post in posts:
            post.cancel()


async def test_a_session_with_more_posts_than_a_client_sends_is_ended(serve: Serve) -> None:
    app = await serve(control_rate=SLOWLY)
    async with aiohttp.ClientSession(app.url) as session:
        path = await polling(session)
        posts = [asyncio.create_task(session.post(path, data="3\x1e3")) for _ in range(MOST_POSTS)]
        (socket,) = app.sockets.eio.sockets.values()
        await eventually(lambda: len(posts_of(socket)._requests) == MOST_POSTS)
        async with session.post(path, data="3") as response:
            assert response.status == 400
        assert socket.closed
        for post in posts:
            post.cancel()


async def test_a_websocket_that_is_lost_as_its_rest_ends_is_let_go_of(app: App) -> None:
    async with wire(app):
        (connection,) = app.sockets.driver.connections
        resting = asyncio.create_task(connection.rest(0))
        await asyncio.sleep(0)  # It waits; its time is up in the next turn of the loop.
        connection.abort()  # Told in that turn as well, right after.
        await resting
        await eventually(lambda: app.limits.clients.total == 0)
        assert not app.sockets.driver.connections


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (WSMsgType.PING, b""),
        (WSMsgType.PONG, b""),
        (WSMsgType.TEXT, b"3"),
        (WSMsgType.TEXT, b"5"),
        (WSMsgType.TEXT, b"41/other,"),
        (WSMsgType.TEXT, b"43[]"),
        (WSMsgType.BINARY, b"x"),
    ],
)
async def test_who_sends_much_that_is_no_command_is_not_read(
    serve: Serve, kind: WSMsgType, payload: bytes
) -> None:
    app = await serve(control_rate=SLOWLY)
    async with wire(app) as client:
        client.writer.write(masked(kind, payload) * 100)
        client.writer.write(masked(WSMsgType.TEXT, b'42["request",{"connid":"a","time":60}]'))
        (connection,) = app.sockets.driver.connections
        await eventually(
            lambda: connection.inbox.held_for("controls") or connection.inbox.held_for("waiting")
        )
        client.writer.write(masked(WSMsgType.TEXT, b'42["request",{"connid":"b","time":60}]'))
        await client.writer.drain()
        async with wire(app) as other:
            other.send(WSMsgType.TEXT, b'420["status",{"connid":"b"}]')
            answer = json.loads((await other.text())[3:])
            assert answer[0]["error"]["code"] == "not_running"


FRAMES = {
    "pong": masked(WSMsgType.PONG, b""),
    "fragment": masked(WSMsgType.CONTINUATION, b"", fin=False),
    "short fragment": masked(WSMsgType.CONTINUATION, b"x" * 1000, fin=False),
}
BEGUN = masked(WSMsgType.TEXT, b"4", fin=False)


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("hello", [None, '{"rooms":[]}'])
async def test_frames_that_are_no_message_are_read_slowly(
    serve: Serve, kind: str, hello: str | None
) -> None:
    app = await serve(control_rate=SLOWLY)
    async with wire(app, hello) as client:
        begun = BEGUN if "fragment" in kind else b""
        client.writer.write(begun + FRAMES[kind] * 20)
        (connection,) = app.sockets.driver.connections
        await eventually(lambda: connection.inbox.held_for("controls"))
        assert connection.socket.controls._left < -10


@pytest.mark.parametrize("hello", [None, '{"rooms":[]}'])
async def test_bytes_that_are_no_message_are_read_slowly(serve: Serve, hello: str | None) -> None:
    app = await serve(control_rate=SLOWLY, max_frame=2**20)
    async with wire(app, hello) as client:
        for _ in range(4):
            client.send(WSMsgType.BINARY, bytes(500_000))
        (connection,) = app.sockets.driver.connections
        await eventually(lambda: connection.inbox.held_for("waiting"))
        async with wire(app) as other:
            other.send(WSMsgType.TEXT, b'420["status",{"connid":"b"}]')
            assert '"not_running"' in await other.text()
        assert connection.socket.controls._left < -20
        assert len(connection.inbox._waiting or ()) <= 2


async def test_a_message_in_large_fragments_counts_once(serve: Serve) -> None:
    app = await serve(control_rate=SLOWLY, max_message=2**17)
    event = b'420["output",{"connid":"a","run":"r","text":"%b"}]' % (b"x" * 100_000)
    async with wire(app) as client:
        for _ in range(3):
            client.send(WSMsgType.TEXT, event[:5000], fin=False)
            for start in range(5000, 100_000, 5000):
                client.send(WSMsgType.CONTINUATION, event[start : start + 5000], fin=False)
            client.send(WSMsgType.CONTINUATION, event[100_000:])
            assert (await client.text()).startswith("430[")
        (connection,) = app.sockets.driver.connections
        assert not connection.inbox.held_for("controls")


async def test_the_bytes_of_a_command_are_charged(serve: Serve) -> None:
    app = await serve(rate_limit=10)
    async with wire(app) as client:
        for number in range(4):
            text = b"x" * 200_000
            client.send(WSMsgType.TEXT, b'42%d["status",{"connid":"%b"}]' % (number, text))
        codes = [json.loads((await client.text())[3:])[0]["error"]["code"] for _ in range(4)]
    assert codes == ["invalid", "rate_limited", "rate_limited", "rate_limited"]


async def test_who_leaves_amid_a_flood_is_gone_at_once(serve: Serve) -> None:
    app = await serve(control_rate=SLOWLY)
    async with wire(app) as client:
        client.writer.write(masked(WSMsgType.TEXT, b"43[]") * 1000)
        (connection,) = app.sockets.driver.connections
        await eventually(lambda: connection._gone is not None)
        connection.abort()
    await eventually(lambda: app.limits.clients.total == 0)


async def test_a_few_pings_hold_nobody_up(app: App) -> None:
    async with wire(app) as client:
        for number in range(20):
            client.send(WSMsgType.PING, b"%d" % number)
            assert await client.receive() == (WSMsgType.PONG, b"%d" % number)
        client.send(WSMsgType.TEXT, b'420["request",{"connid":"a","time":60}]')
        assert '"ok":true' in await client.text()


async def test_pings_at_the_plain_door_are_answered_and_counted(serve: Serve) -> None:
    app = await serve(control_rate=SLOWLY)
    client = Wire(*await asyncio.open_connection("127.0.0.1", app.port))
    client.writer.write(REQUEST.replace(b"/socket.io/?EIO=4&transport=websocket", b"/ws?rooms="))
    await client.reader.readuntil(b"\r\n\r\n")
    client.send(WSMsgType.PING, b"1")
    client.send(WSMsgType.PING, b"2")
    client.send(WSMsgType.TEXT, b'{"route":"request","connid":"a","time":60}')
    assert await client.receive() == (WSMsgType.PONG, b"1")
    assert await client.receive() == (WSMsgType.PONG, b"2")
    assert (await command(app, "status", connid="a"))["error"]["code"] == "not_running"
    client.writer.close()


@pytest.mark.slow
async def test_who_is_not_read_for_a_while_is_not_taken_for_lost(serve: Serve) -> None:
    app = await serve(rate_limit=25, ping_interval=1, ping_timeout=2)
    async with wire(app) as client:
        for number in range(220):
            client.send(WSMsgType.TEXT, b'42%d["status",{"connid":"x"}]' % number)
        answered, pinged = 0, 0
        while answered < 220 or pinged < 3:
            text = await client.text()
            if text == "2":
                pinged += 1
                client.send(WSMsgType.TEXT, b"3")
            else:
                answered += 1
        client.send(WSMsgType.TEXT, b'42300["status",{}]')
        while not (text := await client.text()).startswith("43300"):
            assert text == "2"


async def test_who_disconnects_and_stays_is_cut_in_time(serve: Serve) -> None:
    app = await serve(connect_timeout=0.2)
    async with wire(app) as client:
        client.send(WSMsgType.TEXT, b"41")
        assert await client.closed_with() == 1012
    await eventually(lambda: app.limits.clients.total == 0)


async def test_many_rooms_cost_more_to_list(serve: Serve, connect: Connect) -> None:
    app = await serve(rate_limit=0)
    for number in range(250):
        await command(app, "request", connid="a", time=60, room=f"room-{number}")
    app.limits._rate = 1
    client = await connect(app.url, "websocket", rooms=[])
    answers = [await client.command("rooms") for _ in range(2)]
    assert [answer["ok"] for answer in answers] == [True, False]
