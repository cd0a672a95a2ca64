"""What the server holds for others stays within its budget, whoever fills it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from server.app import App
from server.budget import SHARED, Budget, Holding, Shared
from server.config import Config
from server.counters import Counts
from tests.conftest import ON_REDIS, Connect, Serve
from tests.support import redis
from tests.support.clients import Event, PythonClient
from tests.support.servers import Clock, command, eventually, serving
from tests.support.wire import REQUEST, Wire, masked, wire

MIB = 2**20
BUDGET = 8 * MIB
SHARE = BUDGET // 2
NEIGHBOUR = "127.0.0.2"
"""Another address than that of all others in here."""
POLL = "/socket.io/?EIO=4&transport=polling"
JOBS = 65
LARGE = {"max_note": 60_000, "rate_limit": 0, "memory_budget": BUDGET}
"""Few jobs make a large snapshot."""


class Held:
    """Connections of a test, of which each says how much is held for it."""

    def __init__(self, share: int) -> None:
        self.clock = Clock(100.0)
        self.sizes: dict[str, int] = {}
        self.since: dict[str, float] = {}
        self.shared: dict[str, list[Shared]] = {}
        self.cut: list[str] = []
        config = Config(memory_budget=max(MIB, 2 * share), hold_timeout=2)
        self.counts = Counts()
        self.budget = Budget(config, self.clock, self.counts)
        self.budget.share = share
        self.budget.watch(self._holdings)

    def hold(self, name: str, size: int, *, tell: bool = True) -> None:
        """Hold so much for a connection; what comes before a colon is its address."""
        self.sizes[name] = size
        self.since.setdefault(name, self.clock.now)
        if tell:
            self.budget.grew(size)

    def _holdings(self) -> Iterator[Holding]:
        for name, size in list(self.sizes.items()):
            address = name.partition(":")[0]
            shared = self.shared.get(name, [])
            cut = partial(self._cut, name)
            yield Holding(address, self.since[name], cut, size, shared=shared)

    def _cut(self, name: str) -> None:
        self.cut.append(name)
        del self.sizes[name]


def test_of_the_address_that_holds_most_the_longest_is_cut() -> None:
    held = Held(1600)
    held.budget._most = 1600
    held.hold("one:a", 500)
    held.clock.now += 1
    held.hold("many:a", 300)
    held.clock.now += 1
    held.hold("many:b", 300)
    held.hold("many:c", 300)
    assert not held.cut
    held.clock.now += 1
    held.hold("other:a", 250)
    assert held.cut == ["many:a"]
    assert held.counts.cuts == {"unsent": 1, "unfinished": 0, "waiting": 0}


def test_what_is_no_longer_held_counts_for_nobody() -> None:
    held = Held(1000)
    for number in range(100):
        held.hold(f"a:{number}", 100)
        del held.sizes[f"a:{number}"]
    assert not held.cut
    assert held.budget.kinds() == {"unsent": 0, "unfinished": 0, "waiting": 0}


def test_there_is_room_for_one_when_those_who_stall_are_cut() -> None:
    held = Held(1000)
    held.hold("a:1", 400)
    held.hold("a:2", 400)
    assert held.budget.admits(200)
    assert not held.budget.admits(300)
    held.clock.now += 1
    assert not held.budget.admits(300)
    assert not held.cut
    held.clock.now += 1
    assert held.budget.admits(300)
    assert held.cut == ["a:2"]


def test_one_alone_may_be_sent_more_than_the_share() -> None:
    held = Held(1000)
    assert held.budget.admits(5000)
    held.hold("a:1", 5000)
    held.clock.now += 1
    held.hold("a:1", 5100)
    assert not held.cut
    assert not held.budget.admits(10)
    held.clock.now += 1
    assert held.budget.admits(10)
    assert held.cut == ["a:1"]


def test_what_is_shared_counts_once() -> None:
    held, body = Held(2 * SHARED), Shared(memoryview(bytes(SHARED + 1000)))
    for number in range(1000):
        held.hold(f"a:{number}", 10)
        held.shared[f"a:{number}"] = [body]
        assert held.budget.admits_shared(body)
    assert not held.cut
    total = sum(held.budget.kinds().values())
    assert SHARED < total <= len(body) + 10_000
    other = Shared(memoryview(bytes(SHARED + 1)))
    assert not held.budget.admits_shared(other)
    for number in range(1000):
        held.shared[f"a:{number}"] = []
    held.clock.now += 1
    assert held.budget.admits_shared(other)
    assert not held.cut


def test_what_is_shared_is_held_until_the_last_of_them_is_cut() -> None:
    held = Held(2 * SHARED)
    held.budget._most = 2 * SHARED
    for name, own in (("a", 100), ("b", 1)):
        body = Shared(memoryview(bytes(SHARED + 1)))
        assert held.budget.admits_shared(body) == (name == "a")
        for number in range(10):
            held.hold(f"{name}:{number}", own, tell=False)
            held.shared[f"{name}:{number}"] = [body]
        held.clock.now += 1
    held.budget.grew(SHARED)
    assert sorted(held.cut) == [f"a:{number}" for number in range(10)]


async def fill(app: App) -> None:
    """Have jobs running in `main` that make a snapshot as large as some clients take at most."""
    for index in range(JOBS):
        answer = await command(app, "request", connid=f"job {index}", time=600, note="x" * 60_000)
        assert answer["ok"], answer


@asynccontextmanager
async def stalled(app: App, number: int) -> AsyncIterator[list[Wire]]:
    """Clients in `main` that read nothing from then on that they are let in."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(number):
            client = await stack.enter_async_context(wire(app, "{}", buffer=4096))
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            clients.append(client)
            assert sum(app.budget.kinds().values()) <= SHARE
        yield clients


@pytest.mark.slow
async def test_stalled_readers_of_a_large_snapshot_are_held_within_the_budget(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(**LARGE, hold_timeout=0.2, slow_timeout=60)
    await fill(app)
    async with stalled(app, 20):
        # Who is cut, if anybody: it depends on what the kernel holds.
        reader = await connect(app.url)
        assert len((await reader.event("snapshot"))["running"]) == JOBS
        assert app.budget.kinds()["unsent"] <= SHARE


async def test_a_room_that_begins_anew_is_sent_to_no_more_than_there_is_memory_for(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(**LARGE, hold_timeout=0.2, slow_timeout=60)
    await fill(app)
    readers = [await connect(app.url, name=f"{number}") for number in range(6)]
    for reader in readers:
        await reader.event("snapshot")
    app.rooms.reset("main")
    assert sum(app.budget.kinds().values()) <= SHARE + 4 * MIB
    for reader in readers:
        await reader.event("snapshot")
    await command(app, "kill", connid="job 0")
    for reader in readers:
        await reader.event("killed", connid="job 0")


async def test_who_was_cut_comes_back_and_has_missed_nothing(serve: Serve) -> None:
    app = await serve(**LARGE, hold_timeout=0.1, slow_timeout=60, max_backlog=MIB * 64)
    client = PythonClient()
    client.sio.reconnection = True
    await client.connect(app.url)
    await client.event("snapshot")
    transport = client.sio.eio.ws._response.connection.transport
    transport.pause_reading()
    async with wire(app, None) as other:
        other.send(WSMsgType.TEXT, b"x" * 5000, fin=False)
        for number in range(2000):
            await command(app, "request", connid=f"{number % 50}", time=600, note="x" * 20_000,
                          if_running="replace")  # fmt: skip
            await asyncio.sleep(0)
            if app.counts.cuts["unsent"]:
                break
        assert app.counts.cuts == {"unsent": 1, "unfinished": 0, "waiting": 0}
        await command(app, "request", connid="last", time=600)
        transport.resume_reading()
        await client.until(
            lambda events: any(
                name == "snapshot" and any(job["connid"] == "last" for job in body["running"])
                for name, body in events
            )
        )
        other.send(WSMsgType.PING, b"still there")
        assert await other.receive() == (WSMsgType.PONG, b"still there")
    await client.close()


async def test_unfinished_messages_are_held_within_the_budget(serve: Serve) -> None:
    app = await serve(memory_budget=2 * MIB, max_frame=MIB // 4, hold_timeout=60)
    async with AsyncExitStack() as stack:
        neighbour = await stack.enter_async_context(wire(app, None, address=NEIGHBOUR))
        neighbour.send(WSMsgType.TEXT, b"x" * 60_000, fin=False)
        for _ in range(30):
            client = await stack.enter_async_context(wire(app, None))
            client.writer.write(masked(WSMsgType.TEXT, b"x" * 200_000)[:-1])
        await eventually(lambda: app.counts.cuts["unfinished"] >= 25)
        assert MIB / 2 < app.budget.kinds()["unfinished"] <= MIB
        # Of those who share an address, and of no other.
        neighbour.send(WSMsgType.PING, b"still there")
        assert await neighbour.receive() == (WSMsgType.PONG, b"still there")


@pytest.mark.parametrize("cut", [1, 7, 1000])
async def test_what_came_whole_is_not_held(serve: Serve, cut: int) -> None:
    app = await serve(rate_limit=0)
    async with wire(app) as client:
        parts = b"".join(
            (
                masked(WSMsgType.TEXT, b'421["request",{"connid":"a",', fin=False),
                masked(WSMsgType.PING, b"amid"),
                masked(WSMsgType.CONTINUATION, b'"time":60,"note":"' + b"x" * 300 + b'"}]'),
                masked(WSMsgType.TEXT, '422["kill",{"connid":"a","reason":"☃🐢"}]'.encode()),
            )
        )
        for start in range(0, len(parts), cut):
            client.writer.write(parts[start : start + cut])
            await client.writer.drain()
            await asyncio.sleep(0)
        answers = [await client.receive() for _ in range(3)]
        assert [text[:3] for _, text in answers] == [b"ami", b"431", b"432"]
        (connection,) = app.sockets.driver.connections
        assert connection.holding("", 0).unfinished < 50
        client.writer.write(masked(WSMsgType.TEXT, b"x" * 60_000)[:-1])
        await eventually(lambda: connection.holding("", 0).unfinished > 59_000)


async def test_pings_amid_a_message_hide_nothing_of_it(app: App) -> None:
    async with wire(app) as client:
        client.send(WSMsgType.TEXT, b"43" + b"x" * 900, fin=False)
        for _ in range(5):
            client.send(WSMsgType.PING, b"amid")
            assert await client.receive() == (WSMsgType.PONG, b"amid")
            client.send(WSMsgType.CONTINUATION, b"x" * 900, fin=False)
        client.send(WSMsgType.PING, b"last")
        assert await client.receive() == (WSMsgType.PONG, b"last")
        (connection,) = app.sockets.driver.connections
        assert connection.holding("", 0).unfinished >= 6 * 900
        client.send(WSMsgType.CONTINUATION, b"x")
        client.send(WSMsgType.TEXT, b'421["status",{"connid":"none"}]')
        while not (await client.text()).startswith("431"):
            pass
        assert connection.holding("", 0).unfinished < 50


async def test_what_is_posted_slowly_is_held_within_the_budget(serve: Serve) -> None:
    app = await serve(memory_budget=2 * MIB, max_frame=MIB // 4, hold_timeout=60)
    async with AsyncExitStack() as stack:
        for number in range(30):
            async with aiohttp.ClientSession(app.url) as session, session.get(POLL) as response:
                sid = json.loads((await response.text())[1:])["sid"]
            path = f"{POLL}&sid={sid}" if number % 2 else "/api/jobs"
            size = 200_000 if number % 2 else 60_000
            _, writer = await asyncio.open_connection("127.0.0.1", app.port)
            stack.callback(writer.close)
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
                + b"x" * (size - 1)
            )
        await eventually(lambda: app.counts.cuts["unfinished"] >= 20)
        assert app.budget.kinds()["unfinished"] <= MIB
    await eventually(lambda: app.budget.kinds()["unfinished"] == 0)


@pytest.mark.slow
async def test_what_is_posted_by_those_who_are_gone_is_held_within_the_budget(
    serve: Serve,
) -> None:
    app = await serve(memory_budget=2 * MIB, hold_timeout=60, control_rate=0.001)
    body = b"\x1e".join([b"41" + b"x" * 2000] * 100)
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    async with aiohttp.ClientSession(app.url) as session:
        for number in range(1, 21):
            async with session.get(POLL) as response:
                path = f"{POLL}&sid={json.loads((await response.text())[1:])['sid']}"
            _, writer = await asyncio.open_connection("127.0.0.1", app.port)
            writer.write(head % (path.encode(), len(body)) + body)
            (*_, socket) = app.sockets.eio.sockets.values()
            await eventually(partial(above_its_rate, socket))
            writer.transport.abort()
            await eventually(lambda: app.connections.total == 1)
            cuts = app.counts.cuts["waiting"]
            assert app.budget.kinds()["waiting"] == 2 * len(body) * (number - cuts)
    assert cuts >= 15


async def test_what_waits_for_a_poll_is_counted_in_bytes(serve: Serve) -> None:
    app = await serve(max_note=60_000)
    note = "\N{HOURGLASS WITH FLOWING SAND}" + "\N{BEER MUG}" * 2000
    assert (await command(app, "request", room="r", connid="a", time=60, note=note))["ok"]
    size = len(note.encode())
    async with aiohttp.ClientSession(app.url) as session:
        async with session.get(POLL) as response:
            path = f"{POLL}&sid={json.loads((await response.text())[1:])['sid']}"
        async with session.post(path, data='40{"rooms":["r"]}') as response:
            assert response.status == 200
        assert app.budget.kinds()["unsent"] > size
        (socket,) = app.sockets.eio.sockets.values()
        while socket.queue.size:
            async with session.get(path) as response:
                assert response.status == 200
    assert app.budget.kinds()["unsent"] == 0


async def test_unfinished_messages_of_the_plain_door_are_held_within_the_budget(
    serve: Serve,
) -> None:
    app = await serve(memory_budget=2 * MIB, max_frame=MIB // 4, hold_timeout=60)
    async with AsyncExitStack() as stack:
        readers, writers = [], []
        for _ in range(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
            stack.callback(writer.close)
            writer.write(REQUEST.replace(b"/socket.io/?EIO=4&transport=websocket", b"/ws?rooms="))
            await reader.readuntil(b"\r\n\r\n")
            message = masked(WSMsgType.TEXT, b"x" * 200_000)
            writer.write(message[:-1])
            readers.append(reader)
            writers.append(writer)
        await eventually(lambda: app.counts.cuts["unfinished"] >= 20)
        assert app.budget.kinds()["unfinished"] <= MIB
        # The one that came last is the one that has held least for long.
        writers[-1].write(message[-1:] + masked(WSMsgType.TEXT, b'{"route":"rooms"}'))
        answers = [await readers[-1].readuntil(b"}") for _ in range(2)]
        assert b"message too long" in answers[0]


async def test_answers_that_are_not_read_are_held_within_the_budget(serve: Serve) -> None:
    app = await serve(**LARGE, hold_timeout=60, slow_timeout=60)
    await fill(app)
    async with AsyncExitStack() as stack:
        for _ in range(8):
            door = socket.socket()
            door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            door.connect(("127.0.0.1", app.port))
            _, writer = await asyncio.open_connection(sock=door)
            stack.callback(writer.close)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /api/jobs HTTP/1.1\r\nHost: x\r\n\r\n" * 4)
            await asyncio.sleep(0.02)
            assert sum(app.budget.kinds().values()) <= SHARE
        await eventually(lambda: app.counts.refusals["too_many"] + app.counts.cuts["unsent"] > 10)


async def test_a_look_for_whose_answer_there_is_no_memory_is_refused(serve: Serve) -> None:
    app = await serve(**LARGE, hold_timeout=60, slow_timeout=60)
    await fill(app)
    # Somebody elsewhere reads, if slowly, and is not cut for a look.
    app.budget.watch(lambda: [Holding("elsewhere", app.budget._clock(), lambda: None, SHARE)])
    app.budget.kinds()
    refused = await command(app, "status")
    assert refused["error"]["code"] == "too_many"
    assert refused["error"]["retry_after"] > 0
    assert (await command(app, "status", connid="job 1"))["ok"]
    assert (await command(app, "kill", connid="job 1"))["ok"]


async def test_large_packets_that_wait_have_their_client_not_read(serve: Serve) -> None:
    app = await serve(control_rate=0.001, max_frame=MIB // 4)
    async with wire(app, None) as client:
        (connection,) = app.sockets.driver.connections
        for _ in range(40):
            client.send(WSMsgType.TEXT, b"43" + b"x" * 100_000)
        await eventually(lambda: connection.inbox.held_for("waiting"))
        assert 0 < connection.holding("", 0).waiting < 250_000


ROOMS = [f"room-{number}" for number in range(24)]
RESULT = {"text": "x" * 4000}


async def end_jobs(app: App, room: str, number: int = 20) -> list[str]:
    """Let jobs with large results end in a room; their runs."""
    runs = []
    for _ in range(number):
        run = (await command(app, "request", room=room, connid="a", time=60))["job"]["run"]
        job = {"room": room, "connid": "a", "run": run}
        assert (await command(app, "finish", **job, result=RESULT))["ok"]
        runs.append(run)
    return runs


async def shown(connect: Connect, app: App, room: str) -> list[str]:
    """The runs of the ended jobs in the snapshot of a room."""
    reader = await connect(app.url, rooms=[room])
    ended = (await reader.event("snapshot"))["ended"]
    assert all(job["result"] == RESULT for job in ended)
    return [job["run"] for job in ended]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", ON_REDIS])
async def test_ended_jobs_of_many_rooms_are_held_within_the_budget(
    kind: str, tmp_path: Path, connect: Connect
) -> None:
    kept = redis.settings() if kind == "redis" else {"database": str(tmp_path / "jobs.db")}
    settings = {**kept, "memory_budget": MIB, "rate_limit": 0}
    async with serving(**settings) as app:
        ended = {room: await end_jobs(app, room) for room in ROOMS}
        for room in ROOMS:
            assert await shown(connect, app, room) == ended[room]
            assert app.store.held["ended"] <= MIB / 4 + 100_000
        # One that is open, and is no longer held.
        reader = await connect(app.url, rooms=[ROOMS[0]])
        await reader.event("snapshot")
        for room in ROOMS[1:]:
            await app.store.board(room)
        assert not app.rooms._rooms[ROOMS[0]].board.whole
        ended[ROOMS[0]] += await end_jobs(app, ROOMS[0], 1)
        await reader.event("finished")
        assert await shown(connect, app, ROOMS[0]) == ended[ROOMS[0]]
    async with serving(**settings) as app:
        assert app.store.held["ended"] <= MIB / 4
        for room in ROOMS:
            assert await shown(connect, app, room) == ended[room]


async def test_a_job_that_has_ended_prints_though_it_is_no_longer_held(serve: Serve) -> None:
    app = await serve(memory_budget=MIB, rate_limit=0)
    (run,) = await end_jobs(app, "main", 1)
    board = await app.store.board("main")
    board.leave_ended()
    for room, code in (("main", None), ("other", "not_running")):
        job = {"room": room, "connid": "a", "run": run}
        answer = await command(app, "output", **job, text="late")
        assert answer["ok"] or answer["error"]["code"] == code


async def test_events_for_those_who_reconnect_are_held_within_the_budget(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(memory_budget=MIB, rate_limit=0, max_note=20_000)
    readers = [await connect(app.url, rooms=[room]) for room in ROOMS[:5]]
    seqs = [(await reader.event("snapshot"))["seq"] for reader in readers]
    for _ in range(20):
        for room in ROOMS[:5]:
            await command(app, "request", room=room, connid="a", time=60, note="x" * 2000,
                          if_running="replace")  # fmt: skip
            assert app.rooms.held <= MIB / 8
    epoch = app.store.epoch
    for room, seq in zip(ROOMS[:5], seqs, strict=True):
        late = await connect(app.url, rooms=[room], since={room: {"epoch": epoch, "seq": seq}})
        board = await app.store.board(room)
        await late.until(partial(has_heard, board.seq))


async def test_metrics_tell_what_is_held(serve: Serve) -> None:
    app = await serve(**LARGE, hold_timeout=60, slow_timeout=60)
    await fill(app)
    async with stalled(app, 2), aiohttp.ClientSession(app.url) as session:
        async with session.get("/metrics") as response:
            text = await response.text()
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        assert float(lines['hourglass_memory_held_bytes{kind="unsent"}']) > MIB / 4
        assert float(lines["hourglass_memory_budget_bytes"]) == BUDGET
        for kind in ("unfinished", "waiting", "ended", "output", "replay"):
            assert float(lines[f'hourglass_memory_held_bytes{{kind="{kind}"}}']) >= 0


def above_its_rate(socket: Any) -> bool:
    """Whether a connection has been counted more than it may send."""
    return hasattr(socket, "controls") and socket.controls._left < 0


def has_heard(seq: int, events: list[Event]) -> bool:
    return seq in [event.get("seq") for _, event in events]
