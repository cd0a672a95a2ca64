"""Stopping by a signal: soon, with an answer for everyone, and in the way that brings them back."""

import asyncio
import gc
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.app import App
from server.audit import AuditRecord
from server.config import Config
from server.contract.messages import NULL, Job, Started
from server.store.embedded.batch import Batch
from server.store.embedded.store import EmbeddedStore
from server.store.interface import EndJob, FinishDetails
from tests.conftest import Connect, Serve
from tests.support.clients import PATIENCE, NodeClient, PlainClient, TestClient
from tests.support.load import (
    Gone,
    HttpLine,
    Ledger,
    Line,
    PlainLine,
    PlainWatcher,
    Replay,
    SocketIoLine,
    SocketLine,
    finish_all,
    fresh_snapshot,
    read_log,
)
from tests.support.servers import Clock, Process, command, eventually, serving
from tests.support.trial import Workers, check_rooms, lasting_server, opened

CROWD = ["python"] * 16 + ["polling"] * 14 + ["websocket"] * 16 + ["node"] * 4
Lines = Callable[[Process, Iterable[type[Line]]], Awaitable[list[Any]]]
SOCKETS: tuple[type[Line], ...] = (PlainLine, SocketIoLine)
SOON = 5
"""Seconds in which a server promises to be gone."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Process]:
    async with lasting_server(tmp_path / "jobs.db") as server:
        yield server


@pytest.fixture
async def lines() -> AsyncIterator[Lines]:
    """Open lines to a server: `await lines(server, [PlainLine, …])`."""
    async with AsyncExitStack() as stack:

        async def open_all(server: Process, kinds: Iterable[type[Line]]) -> list[Any]:
            lines = await opened(kinds, server.url)
            for line in lines:
                stack.push_async_callback(line.close)
            return lines

        yield open_all


async def stop(server: Process, signum: signal.Signals = signal.SIGTERM) -> None:
    """Stop a server, and check that it went as it should."""
    server._signal(signum)
    await has_stopped(server)


async def has_stopped(server: Process) -> None:
    """Wait for the end of a server that was told to stop, and check that it was a good one."""
    assert await server.wait(SOON) == 0
    for word in (" ERROR ", " CRITICAL ", "Traceback", "timed out"):
        assert word not in server.log, server.log[-2000:]


async def start(client: TestClient, connid: str, **fields: Any) -> dict[str, Any]:
    answer = await client.command("request", {"connid": connid, "time": 60, **fields})
    assert answer["ok"], answer
    return answer["job"]


def replayed(client: TestClient) -> Replay:
    """What a dashboard makes of all that a client has heard of the room main."""
    replay = Replay()
    for name, body in client.events:
        if name != "reply":
            replay.hear(name, body)
    return replay


async def reaches(client: TestClient, state: Replay) -> None:
    """Check that a client's own view becomes that of a new client."""
    await client.until(lambda events: replayed(client).seq >= state.seq)
    view = replayed(client)
    assert (view.epoch, view.state()) == (state.epoch, state.state())


async def lost(lines: list[SocketLine]) -> None:
    """Wait until every line has lost its connection."""
    await finish_all([asyncio.create_task(line.listen()) for line in lines])


@pytest.mark.slow
@pytest.mark.parametrize("database", ["file", ":memory:"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_without_clients_stops(
    tmp_path: Path, database: str, signum: signal.Signals
) -> None:
    async with lasting_server(tmp_path / "jobs.db" if database == "file" else database) as server:
        await stop(server, signum)
    assert (tmp_path / "jobs.db").exists() == (database == "file")


@pytest.mark.parametrize("database", ["file", ":memory:"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_with_fifty_clients_of_all_kinds_stops(
    tmp_path: Path, connect: Connect, database: str, signum: signal.Signals
) -> None:
    async with lasting_server(tmp_path / "jobs.db" if database == "file" else database) as server:
        clients = await asyncio.gather(*(connect(server.url, kind) for kind in CROWD))
        job = await start(clients[0], "a")
        for client in clients:
            assert (await client.event("started"))["job"] == job
        await stop(server, signum)


async def test_a_server_stops_while_its_disk_hangs(tmp_path: Path) -> None:
    disk, clock = threading.Event(), Clock()
    async with serving(database=str(tmp_path / "jobs.db"), now=clock, stop_timeout=0.4) as app:
        store = app.store
        assert isinstance(store, EmbeddedStore)
        await command(app, "request", connid="a", time=10)
        write = store._backend.write

        def hang(batch: Batch) -> None:
            disk.wait(2 * PATIENCE)
            write(batch)

        store._backend.write = hang  # type: ignore[method-assign]
        asking = asyncio.create_task(command(app, "request", connid="b", time=10))
        clock.now += 20
        await eventually(lambda: len(store._rooms.ledgers["main"].pending) == 2)
        try:
            await asyncio.wait_for(app.stop(), PATIENCE)
            asking.cancel()  # As `asyncio.run` does.
            await asyncio.wait_for(asyncio.wait([asking]), PATIENCE)
        finally:
            disk.set()
            await store._access.call(store._backend.close)


async def test_ends_that_the_last_commit_brings_are_told(serve: Serve, tmp_path: Path) -> None:
    clock, disk = Clock(), threading.Event()
    told: list[AuditRecord] = []
    app = await serve(database=str(tmp_path / "jobs.db"), now=clock, on_change=told.append)
    store = app.store
    assert isinstance(store, EmbeddedStore)
    assert (await command(app, "request", connid="a", time=10))["ok"]
    write = store._backend.write

    def write_later(batch: Batch) -> None:
        disk.wait(PATIENCE)
        write(batch)

    store._backend.write = write_later  # type: ignore[method-assign]
    clock.now += 20
    await eventually(lambda: store._rooms.ledgers["main"].pending)
    stopping = asyncio.create_task(app.stop())
    await eventually(lambda: "timeouts" not in app._tasks)
    disk.set()
    await stopping
    assert [change.event for change in told] == ["started", "finished"]


async def test_a_second_signal_while_stopping_does_no_harm(
    server: Process, connect: Connect
) -> None:
    clients = await asyncio.gather(*(connect(server.url, kind) for kind in CROWD))
    job = await start(clients[0], "a")
    with signals(server) as send:
        send(signal.SIGTERM)
        send(signal.SIGINT)
        # Connections are being cut, so the server is in the middle of it.
        plain = next(client for client in clients if isinstance(client, PlainClient))
        assert plain._reading is not None
        await asyncio.wait_for(plain._reading, PATIENCE)
        send(signal.SIGTERM)
        await has_stopped(server)
    await server.start()
    assert list((await fresh_snapshot(server.url, "main")).running.values()) == [job]


async def test_signals_until_the_very_end_do_no_harm(server: Process, connect: Connect) -> None:
    await connect(server.url)
    stopped = asyncio.create_task(has_stopped(server))
    with signals(server) as send:
        while not stopped.done():
            send(signal.SIGTERM)
            await asyncio.sleep(0.001)
    await stopped


@contextmanager
def signals(server: Process) -> Iterator[Callable[[signal.Signals], None]]:
    """Send signals to a server that may be gone, where nothing then has its process id."""
    process = os.pidfd_open(server.pid)

    def send(signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signum)

    try:
        yield send
    finally:
        os.close(process)


@pytest.mark.parametrize("turns", range(6))
async def test_a_job_that_starts_as_the_server_stops_does_not_hold_it_up(turns: int) -> None:
    app = App(Config(database=":memory:"))
    assert isinstance(app.store, EmbeddedStore)
    running = asyncio.create_task(app.timeouts.run())
    await asyncio.sleep(0.01)
    job = Job(connid="a", run="a", room="main", time=60, started_at=0, deadline=4e9, by="ana")
    app.store._schedule.follow(Started("main", 1, 0, job))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=SOON)
    assert done, "it went on"


async def test_a_refusal_that_nobody_waits_for_any_more_is_no_error(serve: Serve) -> None:
    app = await serve()
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    refused = app.store.submit(
        EndJob("main", "nothing", 0, FinishDetails("nothing", "elapsed", NULL))
    )
    await eventually(refused.done)
    del refused
    gc.collect()
    assert errors == []


async def test_what_was_asked_before_the_signal_is_answered_truthfully(
    server: Process, lines: Lines
) -> None:
    ledger = Ledger()
    marks = {line: ledger.mark() for line in await lines(server, SOCKETS * 20)}
    for number, (line, mark) in enumerate(marks.items()):
        await line.give("request", connid=f"job {number}", time=60, note=mark)
    server._signal(signal.SIGTERM)
    for line, mark in marks.items():
        ledger.note(mark, (await line.next_answer())[1])
    await lost(list(marks))
    await has_stopped(server)
    assert len(ledger.acknowledged) + ledger.unavailable == len(marks)
    await server.start()
    await check_kept(server, ledger, lines)


@pytest.mark.slow
async def test_what_is_asked_while_the_server_stops_is_answered_truthfully(
    server: Process, lines: Lines
) -> None:
    seed = str(time.time_ns())
    print(f"seed {seed}")
    chance, ledger = random.Random(seed), Ledger()
    workers = Workers(ledger, chance)
    for _ in range(6):
        before = len(ledger.acknowledged)
        await workers.begin(server.url, 24)
        await workers.until_acknowledged(chance.randrange(1, 100))
        await stop(server)
        await workers.leave()
        assert len(ledger.acknowledged) > before
        await server.start()
    await check_kept(server, ledger, lines)


async def test_questions_while_the_server_stops_are_no_errors(
    server: Process, lines: Lines
) -> None:
    asking = await lines(server, SOCKETS * 10)
    epoch = (await asking[0].call("request", connid="a", time=60))["epoch"]
    codes: list[str] = []
    tasks = [asyncio.create_task(ask(line, epoch, codes)) for line in asking]
    await eventually(lambda: len(codes) > len(asking))
    await stop(server)
    await finish_all(tasks)
    assert set(codes) <= {"", "not_running", "unavailable"}


async def ask(line: Line, epoch: str, codes: list[str]) -> None:
    """Ask what the store has to be read for, until the connection is lost."""
    questions: list[tuple[str, dict[str, Any]]] = [
        ("history", {}),
        ("kill", {"connid": "nothing"}),
        ("status", {"connid": "nothing"}),
        ("join", {"room": "main", "connid": "a"}),
        ("join", {"room": "main", "since": {"epoch": epoch, "seq": 0}}),
        ("stopped", {"connid": "nothing", "run": "nothing"}),
    ]
    with suppress(Gone):
        while True:
            for name, fields in questions:
                answer = await line.call(name, **fields)
                codes.append("" if answer["ok"] else answer["error"]["code"])


async def test_that_work_has_stopped_is_answered_truthfully_while_the_server_stops(
    server: Process, lines: Lines
) -> None:
    telling = await lines(server, SOCKETS * 10)
    # More than the last ended jobs, which are at hand in memory.
    killed = []
    for number in range(0, 1000, len(telling)):
        new = (kill_new(line, f"job {number + n}") for n, line in enumerate(telling))
        killed += await asyncio.gather(*new)
    answers: dict[str, bool] = {}
    tasks = [asyncio.create_task(tell_stopped(line, killed, answers)) for line in telling]
    async with asyncio.timeout(PATIENCE):
        while len(answers) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await stop(server)
    await finish_all(tasks)
    assert killed, "the server has stopped in the middle of it"
    await server.start()
    (line,) = await lines(server, [HttpLine])
    events, _ = await read_log(line, "main")
    told = {event["run"] for event in events if event["event"] == "stopped"}
    assert {run for run, ok in answers.items() if ok} <= told
    assert not {run for run, ok in answers.items() if not ok} & told


async def kill_new(line: Line, connid: str) -> tuple[str, str]:
    """Start and kill a job; its connid and run."""
    assert (await line.call("request", connid=connid, time=60))["ok"]
    answer = await line.call("kill", connid=connid)
    return connid, answer["job"]["run"]


async def tell_stopped(line: Line, killed: list[tuple[str, str]], answers: dict[str, bool]) -> None:
    """Tell of one run after the other that its work has stopped, until the connection is lost.

    What was refused is told again, after all others, so that there is something to tell for as
    long as the server takes to stop.
    """
    with suppress(Gone):
        while killed:
            connid, run = killed.pop(0)
            answers[run] = (await line.call("stopped", connid=connid, run=run))["ok"]
            if not answers[run]:
                killed.append((connid, run))


async def check_kept(server: Process, ledger: Ledger, lines: Lines) -> None:
    """Hold a server that has started again to what it said before."""
    (line,) = await lines(server, [HttpLine])
    await check_rooms(line, ledger)


async def test_clients_come_back_by_themselves_and_catch_up(
    server: Process, connect: Connect
) -> None:
    nodes = [await connect(server.url, "node", name=f"node {number}") for number in range(4)]
    await start(nodes[0], "before")
    await start(nodes[1], "killed meanwhile")
    for node in nodes:
        await node.event("started", seq=2)
    await stop(server)
    await server.start()
    other = await connect(server.url, "websocket")
    await start(other, "meanwhile")
    assert (await other.command("kill", {"connid": "killed meanwhile"}))["ok"]
    for node in nodes:
        await node.until(lambda events: snapshots(events) == 2)
        assert isinstance(node, NodeClient) and node.connections == 2
    await start(nodes[2], "after")
    state = await fresh_snapshot(server.url, "main")
    assert set(state.running) == {"before", "meanwhile", "after"}
    for node in nodes:
        await reaches(node, state)


def snapshots(events: list[tuple[str, dict[str, Any]]]) -> int:
    return sum(name == "snapshot" for name, _ in events)


async def test_polling_clients_of_javascript_come_back_too(
    server: Process, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NodeClient, "options", {"transports": ["polling"]})
    node = await connect(server.url, "node")
    await start(node, "before")
    await stop(server)
    await server.start()
    await node.until(lambda events: snapshots(events) == 2)
    await start(node, "after")
    await reaches(node, await fresh_snapshot(server.url, "main"))


async def test_a_session_of_before_the_restart_is_no_error(server: Process) -> None:
    url = f"{server.url}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            sid = json.loads((await response.text())[1:])["sid"]
        await stop(server)
        await server.start()
        async with session.get(f"{url}&sid={sid}") as response:
            assert response.status == 400
        await stop(server)


async def test_a_watcher_with_a_position_is_sent_only_what_it_missed(
    server: Process, lines: Lines
) -> None:
    watcher = PlainWatcher()
    await watcher.watch(server.url)
    (line,) = await lines(server, [HttpLine])
    assert (await line.call("request", connid="a", time=60))["ok"]
    await watcher.reach("main", 1)
    await stop(server)
    await finish_all([watcher.task])
    await watcher.close()
    await server.start()
    assert (await line.call("request", connid="b", time=60))["ok"]
    again = PlainWatcher(watcher.replays)
    await again.watch(server.url)
    await again.reach("main", 2)
    assert again.replays["main"].snapshots == 1
    assert again.replays["main"].state() == (await fresh_snapshot(server.url, "main")).state()
    await again.leave()


async def test_a_job_that_came_due_while_the_server_was_down_ends_late(
    server: Process, connect: Connect, lines: Lines
) -> None:
    client = await connect(server.url, "websocket")
    job = await start(client, "brief", time=0.5)
    await stop(server)
    await asyncio.sleep(max(0.0, job["deadline"] - time.time()))
    await server.start()
    watcher = PlainWatcher()
    await watcher.watch(server.url)
    (line,) = await lines(server, [HttpLine])
    await watcher.settle(line)
    await watcher.leave()
    (ended,) = watcher.replays["main"].ended
    assert (ended["run"], ended["outcome"], ended["late"]) == (job["run"], "elapsed", True)


async def test_clients_are_told_that_the_server_goes_away(server: Process, lines: Lines) -> None:
    plain, socketio = told = await lines(server, SOCKETS)
    listening = asyncio.create_task(lost(told))
    await stop(server)
    await listening
    assert plain.goodbye == 1001
    assert socketio.goodbye == 1012, "after any other end some clients stay away"


async def test_those_who_say_nothing_do_not_hold_up_the_stop(server: Process, lines: Lines) -> None:
    half = b"POST /api/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"
    (line,) = await lines(server, [HttpLine])
    with ExitStack() as stack:
        for beginning in (b"", b"GET / HT", half):
            silent = socket.create_connection(("127.0.0.1", server.port))
            stack.enter_context(silent)
            silent.sendall(beginning)
        assert (await line.call("status"))["ok"]
        await stop(server)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/ws", "/socket.io/?EIO=4&transport=websocket"])
async def test_those_who_do_not_read_do_not_hold_up_the_stop(
    server: Process, lines: Lines, path: str
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        deaf.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert b"101" in deaf.recv(100)
        if "EIO" in path:
            deaf.sendall(masked(b"40{}"))
        (line,) = await lines(server, [PlainLine])
        note = "x" * 500
        for _ in range(1500):
            how = {"time": 60, "note": note, "if_running": "replace"}
            assert (await line.call("request", connid="noise", **how))["ok"]
        await stop(server)


def masked(text: bytes) -> bytes:
    """A client's text frame, with a mask of zeros."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text
