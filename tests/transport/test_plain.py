"""The plain WebSocket, from the wire: which frames it takes, how it closes, how much it reads."""

import asyncio
import json
import struct

import pytest
from aiohttp import WSMsgType

from server.app import App
from server.transport.frames import frame
from tests.conftest import Serve
from tests.support.servers import command, eventually
from tests.support.wire import Wire, masked, plain

SLOWLY = 0.001
START = b'{"route":"request","connid":"a","time":60,"id":1}'


async def closes(client: Wire) -> tuple[int, bytes]:
    """The close frame of the server, which is the last that it sends."""
    opcode, payload = await client.receive()
    while opcode != WSMsgType.CLOSE:
        opcode, payload = await client.receive()
    async with asyncio.timeout(5):
        assert await client.reader.read() == b""
    return opcode, payload


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (frame(START), 1002),
        (frame(b"", WSMsgType.PING), 1002),
        (b"\x81\xfe\x00\x01" + bytes(5), 1002),
        (b"\x81\xff" + struct.pack("!Q", 200) + bytes(204), 1002),
        (masked(WSMsgType.CLOSE, struct.pack("!H", 1006)), 1002),
        (masked(WSMsgType.CLOSE, struct.pack("!H", 5000)), 1002),
        (masked(WSMsgType.CLOSE, struct.pack("!H", 65535)), 1002),
        (masked(WSMsgType.CLOSE, struct.pack("!H", 999)), 1002),
        (masked(WSMsgType.TEXT, b"\xff"), 1007),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("early", [True, False])
async def test_a_frame_that_may_not_be_closes_with_the_right_code(
    app: App, frame: bytes, code: int, early: bool
) -> None:
    async with plain(app, early=frame if early else b"") as client:
        if not early:
            client.writer.write(frame)
        assert await closes(client) == (WSMsgType.CLOSE, struct.pack("!H", code))
    await eventually(lambda: app.web.clients == 0)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999, None])
async def test_a_close_is_answered_with_its_code(app: App, code: int | None) -> None:
    payload = b"" if code is None else struct.pack("!H", code)
    async with plain(app) as client:
        client.send(WSMsgType.CLOSE, payload + (b"bye" if payload else b""))
        assert await closes(client) == (WSMsgType.CLOSE, payload)


async def test_what_came_before_a_close_is_answered(app: App) -> None:
    async with plain(app) as client:
        close = masked(WSMsgType.CLOSE, struct.pack("!H", 1000))
        started = masked(WSMsgType.TEXT, START)
        looked = masked(WSMsgType.TEXT, b'{"route":"status","connid":"a","id":2}')
        client.writer.write(started + looked + close)
        answers = [json.loads(await client.text()) for _ in range(2)]
        assert [(answer["ok"], answer["id"]) for answer in answers] == [(True, 1), (True, 2)]
        assert await closes(client) == (WSMsgType.CLOSE, struct.pack("!H", 1000))


async def test_who_does_not_read_the_answers_before_its_close_is_cut_in_time(serve: Serve) -> None:
    app = await serve(rate_limit=0, close_timeout=0.2)
    for number in range(100):
        await command(app, "request", connid=str(number), time=60, note="x" * 500)
    async with plain(app) as client:
        client.writer.write(masked(WSMsgType.TEXT, b'{"route":"status"}') * 200)
        client.send(WSMsgType.CLOSE, b"")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await eventually(lambda: app.web.clients == 0)


async def test_a_message_as_long_as_the_setting_says_is_taken(app: App) -> None:
    async with plain(app) as client:
        longest = b'{"route":"status"}'.ljust(app.config.max_frame)
        client.writer.write(masked(WSMsgType.TEXT, longest))
        assert '"message too long' in await client.text()
        client.writer.write(masked(WSMsgType.TEXT, longest + b" ")[:14])
        assert (await closes(client))[1] == struct.pack("!H", 1009)


@pytest.mark.parametrize("early", [True, False])
async def test_what_came_before_a_frame_that_may_not_be_is_carried_out(
    app: App, early: bool
) -> None:
    frames = masked(WSMsgType.TEXT, START) + frame(START)
    async with plain(app, early=frames if early else b"") as client:
        if not early:
            client.writer.write(frames)
        await closes(client)
    assert (await command(app, "status", connid="a"))["ok"]


async def test_fragments_are_read_slowly(serve: Serve) -> None:
    app = await serve(control_rate=SLOWLY)
    async with plain(app) as client:
        client.send(WSMsgType.TEXT, b"{", fin=False)
        client.writer.write(masked(WSMsgType.CONTINUATION, b"", fin=False) * 20)
        (socket,) = (client._socket for client in app.web._clients)
        await eventually(lambda: socket._controls._left < -10)
        client.send(WSMsgType.CONTINUATION, START[1:])
        await client.writer.drain()
        async with plain(app) as other:
            other.send(WSMsgType.TEXT, b'{"route":"status","connid":"a"}')
            assert json.loads(await other.text())["error"]["code"] == "not_running"


async def test_who_is_lost_while_it_has_to_wait_is_let_go_of(serve: Serve) -> None:
    app = await serve(control_rate=SLOWLY)
    async with plain(app) as client:
        client.writer.write(masked(WSMsgType.PING, b"") * 20)
        (socket,) = (client._socket for client in app.web._clients)
        await eventually(lambda: socket._controls._left < 0)
        client.writer.transport.abort()
        await eventually(lambda: app.web.clients == 0)


async def test_what_is_read_at_once_is_taken_in_its_order(app: App) -> None:
    frames = b"".join(
        masked(WSMsgType.TEXT, b'{"route":"status","connid":"a","id":%d}' % number)
        for number in range(5000)
    )
    async with plain(app, early=frames) as client:
        for number in range(5000):
            assert json.loads(await client.text())["id"] == number


async def test_a_message_in_large_fragments_counts_once(serve: Serve) -> None:
    app = await serve(control_rate=SLOWLY, max_message=2**17)
    text = b'{"route":"output","connid":"a","run":"r","text":"%b"}' % (b"x" * 100_000)
    async with plain(app) as client:
        for _ in range(3):
            client.send(WSMsgType.TEXT, text[:5000], fin=False)
            for start in range(5000, 100_000, 5000):
                client.send(WSMsgType.CONTINUATION, text[start : start + 5000], fin=False)
            client.send(WSMsgType.CONTINUATION, text[100_000:])
            assert '"not_running"' in await client.text()


async def test_the_bytes_of_a_command_are_charged(serve: Serve) -> None:
    app = await serve(rate_limit=10)
    async with plain(app) as client:
        for _ in range(4):
            client.send(WSMsgType.TEXT, b'{"route":"status","connid":"%b"}' % (b"x" * 200_000))
        codes = [json.loads(await client.text())["error"]["code"] for _ in range(4)]
    assert codes[1:] == ["rate_limited"] * 3
