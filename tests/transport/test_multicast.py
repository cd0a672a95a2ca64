"""What goes to many at once: in order for each of them, and never in front of what is unsent."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType

from server.app import App
from server.transport.connection import Connection
from server.transport.frames import Buffer, frame
from server.transport.multicast import Multicast, send_all
from tests.conftest import Connect, Serve
from tests.support.servers import command, eventually
from tests.support.wire import Wire, masked, wire


def commands(*events: tuple[str, dict[str, Any]]) -> bytes:
    """Commands in one piece, with 1, 2, 3 … as the ids of their acknowledgements."""
    frames = (f"42{id}{json.dumps(event)}".encode() for id, event in enumerate(events, 1))
    return b"".join(masked(WSMsgType.TEXT, text) for text in frames)


def start(connid: str) -> tuple[str, dict[str, Any]]:
    return "request", {"connid": connid, "time": 60}


async def said(client: Wire, until: str) -> list[str]:
    """What a client is told, up to the first text that begins so: events by their jobs."""
    texts: list[str] = []
    while not texts or not texts[-1].startswith(until):
        text = await client.text()
        if text.startswith("42"):
            name, body = json.loads(text[2:])
            text = f"{name} {body['job']['connid']}" if name == "started" else name
        texts.append(text)
    return texts


async def test_a_member_hears_of_a_job_before_its_answer_and_in_order(app: App) -> None:
    async with wire(app, '{"rooms":["main"]}') as client, wire(app, "{}") as other:
        await said(other, "presence")
        client.writer.write(commands(*(start(str(number)) for number in range(50))))
        told = await said(client, "4350[")
        heard = [text for text in told if text.startswith("started")]
        assert heard == [f"started {number}" for number in range(50)]
        answers = [text[: text.index("[")] for text in told if text.startswith("43")]
        assert answers == [f"43{id}" for id in range(1, 51)]
        told = [text.partition("[")[0] for text in told]
        assert all(
            told.index(f"started {number}") < told.index(f"43{number + 1}") for number in range(50)
        )
        assert [text for text in await said(other, "started 49") if text.startswith("started")] == (
            heard
        )


async def test_who_leaves_hears_what_was_before_and_nothing_after(app: App) -> None:
    async with wire(app, "{}") as client, wire(app, "{}") as other:
        await said(other, "presence")
        client.writer.write(
            commands(
                start("a"),
                ("leave", {"room": "main"}),
                start("b"),
                ("status", {}),
                ("join", {"room": "main"}),
                start("c"),
            )
        )
        told = await said(client, "436[")
        told = [text.partition("[")[0] for text in told if text != "presence"]
        assert told == ["snapshot", "started a", "431", "432", "433", "434", "435", "snapshot",
                        "started c", "436"]  # fmt: skip
        await said(other, "started c")


async def test_one_that_does_not_read_misses_nothing_and_holds_up_nobody(
    serve: Serve, connect: Connect
) -> None:
    settings = {"max_backlog": 2**24, "max_note": 5000, "presence_interval": 0.05}
    app = await serve(rate_limit=0, **settings)
    async with wire(app, "{}", buffer=16_384) as slow:
        reader = await connect(app.url)
        await reader.event("presence", watching=2)
        narrow(app)
        room = app.rooms._rooms["main"]
        assert not room.others
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        total = 0
        while not room.others:
            await asyncio.gather(*(big(app, str(total + n), 5000) for n in range(150)))
            total += 150
            assert total < 50_000
        await reader.event("started", seq=total)
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        told = await said(slow, f"started {total - 1}")
        heard = [text for text in told if text.startswith("started")]
        assert heard == [f"started {number}" for number in range(total)]
        await eventually(lambda: not room.others)
        await big(app, "last")
        assert (await said(slow, "started last"))[-1:] == ["started last"]


def narrow(app: App) -> list[Connection]:
    """The connections, with as little room in the kernel for what they are sent as there can be."""
    connections = list(app.sockets.driver.connections)
    for connection in connections:
        assert connection._transport is not None
        door = connection._transport.get_extra_info("socket")
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return connections


async def big(app: App, connid: str, size: int = 500) -> None:
    await command(app, "request", connid=connid, time=600, note="x" * size)


@asynccontextmanager
async def clogged(app: App) -> AsyncIterator[tuple[Wire, Connection]]:
    """A client that does not read a snapshot of many big jobs, and its connection."""
    await asyncio.gather(*(big(app, str(number)) for number in range(2_000)))
    async with wire(app, '{"rooms":[]}', buffer=16_384) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = narrow(app)
        client.writer.write(commands(("join", {"room": "main"})))
        await eventually(lambda: connection.clogged)
        yield client, connection


@pytest.mark.slow
async def test_a_slow_link_may_take_longer_than_the_ping_timeout(serve: Serve) -> None:
    app = await serve(rate_limit=0, ping_interval=1, ping_timeout=1, max_running_room=0)
    async with clogged(app) as (client, connection):
        client.send(WSMsgType.PING, b"first")
        client.send(WSMsgType.PING, b"second")
        for _ in range(5):
            client.send(WSMsgType.TEXT, b"3")
            await asyncio.sleep(0.5)
        assert connection.clogged
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = await client.receive()
        while received != (WSMsgType.PONG, b"second"):
            assert received[0] == WSMsgType.TEXT
            received = await client.receive()


async def test_one_that_asks_without_reading_is_heard_no_more(serve: Serve) -> None:
    app = await serve(rate_limit=0, max_running_room=0)
    async with clogged(app) as (client, connection):
        before = connection.backlog()
        for _ in range(5000):
            client.send(WSMsgType.PING, b"x" * 100)
            client.send(WSMsgType.TEXT, b"40/no-such-namespace,")
        await eventually(lambda: connection.inbox._holds)
        assert connection.backlog() < before + 20_000


class Slow(asyncio.Transport):
    """Not a socket's: what is written to it stays there."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.written: list[bytes] = []
        self.full = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        if self.full:
            self.protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def get_write_buffer_size(self) -> int:
        return 0


async def test_over_other_transports_than_sockets_all_goes_through_them(app: App) -> None:
    slow: list[str] = []
    group = Multicast(app.sockets.driver.flusher, slow.append)
    transports = [Slow() for _ in range(3)]
    for number, transport in enumerate(transports):
        async with wire(app):
            (taken,) = app.sockets.driver.connections
        connection = Connection(app.sockets.driver, taken.socket)
        transport.protocol = connection
        connection.connection_made(transport)
        assert group.add(connection, f"client {number}")
        await eventually(lambda: not app.sockets.driver.connections)
    transports[1].full = True
    group.write(frame(b"one"))
    group.write(frame(b"two"))
    group.flush()
    assert slow == ["client 1"]
    group.write(frame(b"three"))
    group.flush()
    both, three = frame(b"one") + frame(b"two"), frame(b"three")
    assert [transport.written for transport in transports] == [[both, three], [both], [both, three]]


def test_who_cannot_be_sent_to_keeps_nothing_from_others() -> None:
    got: list[str] = []

    def whole(data: Buffer) -> int:
        got.append("whole")
        return len(data)

    def full(data: Buffer) -> int:
        raise BlockingIOError

    def gone(data: Buffer) -> int:
        raise BrokenPipeError

    def part(data: Buffer) -> int:
        got.append("part")
        return 1

    senders = [full, whole, gone, full, part, whole, gone]
    assert send_all(senders, b"abc") == [0, 3, 0, 0, 1, 3, 0]
    assert got == ["whole", "part", "whole"]
