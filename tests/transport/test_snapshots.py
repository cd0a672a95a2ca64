"""A large snapshot is held once for all who are sent it, and is in order with what follows it."""

import asyncio
import gc
import json
import socket
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from server.app import App
from server.budget import SHARED, Shared
from server.transport.backlog import Backlog
from server.transport.connection import Connection
from tests.conftest import Connect, Serve
from tests.support.clients import NodeClient, PlainClient, PollingClient, PythonClient, TestClient
from tests.support.servers import command, eventually
from tests.support.wire import Wire, plain, wire

POLL = "/socket.io/?EIO=4&transport=polling"
JOBS = 60
NOTE = "x\N{SNOWMAN}" * 15_000
SETTINGS = {"rate_limit": 0, "max_note": 60_000, "slow_timeout": 60}
ALL = ["python", "polling", "node", "websocket", "node polling", "node upgrade"]


class NodePolling(NodeClient):
    options = {"transports": ["polling"]}


class NodeUpgrade(NodeClient):
    """Moves to a WebSocket, as a browser does unless told otherwise."""

    options: dict[str, Any] = {}


KINDS: dict[str, type[TestClient]] = {
    "python": PythonClient,
    "polling": PollingClient,
    "websocket": PlainClient,
    "node": NodeClient,
    "node polling": NodePolling,
    "node upgrade": NodeUpgrade,
}


async def large(app: App) -> None:
    """Have jobs running in `main` that make a snapshot of some megabytes."""
    for number in range(JOBS):
        answer = await command(app, "request", connid=f"job {number}", time=600, note=NOTE)
        assert answer["ok"], answer


@pytest.fixture
async def full(serve: Serve) -> App:
    app = await serve(**SETTINGS)
    await large(app)
    return app


@asynccontextmanager
async def stalled(app: App) -> AsyncIterator[tuple[Wire, Connection]]:
    """A dashboard that reads nothing, and its connection."""
    known = set(app.sockets.driver.connections)
    async with wire(app, "{}", buffer=4096) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = app.sockets.driver.connections - known
        yield client, connection


def waiting(connection: Connection) -> list[Shared]:
    """What a connection is still to be sent of what is held once."""
    return list(connection.holding("", 0).shared)


def body_of(app: App) -> Shared:
    body = app.rooms._rooms["main"].snapshot
    assert body is not None
    return body


def is_encoded(app: App) -> bool:
    return app.rooms._rooms["main"].snapshot is not None


@asynccontextmanager
async def polling(app: App, session: aiohttp.ClientSession) -> AsyncIterator[str]:
    """The address of a session of long polling that was let in, and has not polled since."""
    async with session.get(POLL) as response:
        path = f"{POLL}&sid={json.loads((await response.text())[1:])['sid']}"
    async with session.post(path, data="40") as response:
        assert response.status == 200
    yield path


async def test_all_who_are_sent_a_snapshot_share_one(full: App) -> None:
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(stalled(full)) for _ in range(5)]
        session = await stack.enter_async_context(aiohttp.ClientSession(full.url))
        for _ in range(5):
            await stack.enter_async_context(polling(full, session))
            client = await stack.enter_async_context(plain(full, "/ws"))
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await eventually(lambda: full.rooms.clients == 15)
        body = body_of(full)
        assert len(body) > 3_000_000
        assert [waiting(connection) for _, connection in sockets] == [[body]] * 5
        queues = [it.queue for it in full.sockets.eio.sockets.values() if not it.upgraded]
        assert [queue.shared for queue in queues] == [[body]] * 5
        assert [list(client.shared) for client in full.web._clients] == [[body]] * 5
        assert full.rooms.snapshots_encoded == 1
        held = full.budget.kinds()["unsent"]
        assert len(body) * 0.9 < held < len(body) + 15 * SHARED


@pytest.mark.parametrize("kind", ALL)
async def test_what_happens_amid_a_snapshot_follows_it(full: App, kind: str) -> None:
    client = KINDS[kind]()
    # The answer to the last of these is behind all, too.
    await client.connect(full.url, rooms=[])
    joining = asyncio.create_task(client.command("join", {"room": "main"}))
    await eventually(lambda: full.rooms.clients == 1)
    seqs = []
    for number in range(100):
        answer = await command(full, "request", connid=f"late {number}", time=600)
        seqs.append(answer["seq"])
    await client.until(lambda events: any(body.get("seq") == seqs[-1] for _, body in events))
    assert (await joining)["ok"]
    assert (await client.command("status", {"connid": "late 99"}))["ok"]
    told = [(name, body["seq"]) for name, body in client.events if name != "presence"]
    name, seq = told[0]
    assert name == "snapshot" and len(client.events[0][1]["running"]) >= JOBS
    assert client.events[0][1]["running"][0]["note"] == NOTE
    assert told[1:] == [("started", later) for later in range(seq + 1, seqs[-1] + 1)]
    await client.close()


async def test_a_slow_reader_is_sent_all_in_order(full: App) -> None:
    async with stalled(full) as (client, connection):
        room = full.rooms._rooms["main"]
        (member,) = room.members
        assert member in room.others
        for number in range(200):
            await command(full, "request", connid=f"late {number}", time=600)
        client.send(WSMsgType.TEXT, b'421["status",{"connid":"late 1"}]')
        assert waiting(connection)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        texts = [await client.text()]
        while not texts[-1].startswith("431"):
            texts.append(await client.text())
        events = [json.loads(text[2:]) for text in texts if text.startswith("42")]
        snapshot, *later = [body for name, body in events if name != "presence"]
        assert len(snapshot["running"]) == JOBS
        assert [body["job"]["connid"] for body in later] == [f"late {n}" for n in range(200)]
        await eventually(lambda: connection.writable())
        assert waiting(connection) == [] and connection.backlog() == 0
        room.unite(member)
        assert not room.others
        await command(full, "request", connid="last", time=600)
        while (text := await client.text()).startswith('42["presence"'):
            pass
        assert '"last"' in text


async def test_who_leaves_amid_a_snapshot_holds_nothing(full: App) -> None:
    async with stalled(full):
        body = weakref.ref(body_of(full))
        await command(full, "kill", connid="job 0")
        assert not is_encoded(full) and body() is not None
    await eventually(lambda: full.rooms.clients == 0)
    gc.collect()
    assert body() is None
    assert full.budget.kinds()["unsent"] == 0


@pytest.mark.parametrize("door", ["polling", "plain"])
async def test_who_leaves_another_door_holds_nothing(full: App, door: str) -> None:
    async with aiohttp.ClientSession(full.url) as session:
        if door == "plain":
            async with plain(full, "/ws") as client:
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await eventually(lambda: full.rooms.clients == 1)
                body = weakref.ref(body_of(full))
                await command(full, "kill", connid="job 0")
                assert body() is not None
        else:
            async with polling(full, session) as path:
                body = weakref.ref(body_of(full))
                await command(full, "kill", connid="job 0")
                async with session.get(path) as response:
                    assert response.status == 200
                    assert await response.content.readexactly(100_000)
                    assert body() is not None
                    response.close()
    await eventually(lambda: full.rooms.clients == 0)
    await eventually(lambda: gc.collect() >= 0 and body() is None)
    assert full.budget.kinds()["unsent"] == 0


async def test_a_room_that_begins_anew_is_sent_to_all_as_one(full: App, connect: Connect) -> None:
    readers = [await connect(full.url) for _ in range(3)]
    for reader in readers:
        await reader.event("snapshot")
    encoded = full.rooms.snapshots_encoded
    full.rooms.reset("main")
    for reader in readers:
        assert len((await reader.event("snapshot"))["running"]) == JOBS
    assert full.rooms.snapshots_encoded == encoded + 1
    await command(full, "kill", connid="job 0")
    for reader in readers:
        await reader.event("killed")


@pytest.mark.slow
async def test_many_at_once_read_the_same(full: App) -> None:
    async def read() -> bytes:
        async with wire(full, "{}") as client:
            while True:
                _, text = await client.receive()
                if text.startswith(b'42["snapshot"'):
                    return text

    found = await asyncio.gather(*(read() for _ in range(40)))
    bodies = {json.dumps({**json.loads(text[2:])[1], "now": 0}) for text in found}
    assert len(bodies) == 1
    assert full.rooms.snapshots_encoded == 1


async def test_a_poll_is_answered_with_all_that_waits(full: App) -> None:
    async with (
        aiohttp.ClientSession(full.url) as session,
        polling(full, session) as path,
    ):
        await command(full, "request", connid="late", time=600)
        async with session.get(path) as response:
            assert response.headers["Content-Type"] == "text/plain; charset=UTF-8"
            assert response.headers["Cache-Control"] == "no-store"
            packets = (await response.text()).split("\x1e")
        assert int(response.headers["Content-Length"]) == len("\x1e".join(packets).encode())
        assert [packet[:12] for packet in packets if "presence" not in packet[:12]] == [
            packets[0][:12],
            '42["snapshot',
            '42["started"',
        ]
        assert packets[0].startswith('40{"sid"')
        assert len(json.loads(packets[1][2:])[1]["running"]) == JOBS
        await command(full, "request", connid="later", time=600)
        async with session.get(f"{path}&j=3") as response:  # JSONP.
            assert (await response.text()).startswith("___eio[3](")


async def test_a_snapshot_that_waits_for_a_poll_comes_over_the_websocket_instead(
    full: App,
) -> None:
    async with (
        aiohttp.ClientSession(full.url) as session,
        polling(full, session) as path,
        session.ws_connect(path.replace("polling", "websocket"), max_msg_size=0) as moved,
    ):
        await moved.send_str("2probe")
        assert await moved.receive_str() == "3probe"
        await moved.send_str("5")
        texts = [await moved.receive_str() for _ in range(2)]
        assert texts[0].startswith("40{")
        assert len(json.loads(texts[1][2:])[1]["running"]) == JOBS
        await command(full, "request", connid="late", time=600)
        while "started" not in texts[-1][:12]:
            texts.append(await moved.receive_str())


async def test_pings_and_a_close_come_between_the_fragments_of_a_plain_message(
    full: App,
) -> None:
    async with plain(full, "/ws", buffer=4096) as client:
        opcode, payload = await client.receive()
        assert opcode == WSMsgType.TEXT and payload.startswith(b'{"event":"snapshot"')
        client.send(WSMsgType.PING, b"amid")
        client.send(WSMsgType.CLOSE, (1000).to_bytes(2, "big"))
        kinds = [await client.receive()]
        while kinds[-1][0] != WSMsgType.CLOSE:
            kinds.append(await client.receive())
        assert (WSMsgType.PONG, b"amid") in kinds
        assert WSMsgType.CONTINUATION in {opcode for opcode, _ in kinds}


async def test_a_close_waits_for_what_was_written_before(full: App) -> None:
    async with stalled(full) as (client, connection):
        assert waiting(connection)
        client.send(WSMsgType.CLOSE, (1000).to_bytes(2, "big"))
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        told = [await client.receive() for _ in range(2)]
        while told[-1][0] != WSMsgType.CLOSE:
            told.append(await client.receive())
        assert told[0][0] == WSMsgType.TEXT and len(told[0][1]) > 3_000_000
        assert told[-1][1] == (1000).to_bytes(2, "big")


@pytest.mark.slow
async def test_one_who_reads_slowly_over_http_goes_on(serve: Serve) -> None:
    app = await serve(**{**SETTINGS, "slow_timeout": 0.3})
    await large(app)
    async with plain(app, "/ws", buffer=2**15) as client:
        (served,) = app.connections._open
        door = served.get_extra_info("socket")
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        told = 0
        transport: Any = client.writer.transport
        async with asyncio.timeout(60):
            while told < 2_000_000:
                transport.resume_reading()
                read = await client.reader.read(50_000)
                transport.pause_reading()
                assert read, "it was cut"
                told += len(read)
                app.connections.cut_idle()
                await asyncio.sleep(0.02)
        assert app.rooms.clients == 1


def test_what_waits_goes_out_in_pieces_and_in_order() -> None:
    backlog, body = Backlog(), Shared(memoryview(b"s" * (SHARED + 10)))
    backlog.add(b"first")
    backlog.share(body)
    backlog.add(b"then")
    backlog.add(b" more")
    assert (backlog.size, backlog.own) == (5 + len(body) + 9, 14)
    pieces = []
    while backlog.size:
        with backlog.next_piece() as piece:
            pieces.append(bytes(piece))
        backlog.advance(len(pieces[-1]))
    assert pieces == [b"first", b"s" * SHARED, b"s" * 10, b"then more"]
    assert (backlog.own, backlog.bodies) == (0, [])
