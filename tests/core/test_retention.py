"""Rooms that are kept no longer: what is evicted, what is not, and that no position lies."""

import asyncio
import sqlite3
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from server.app import App
from server.errors import Unavailable
from server.store.embedded.store import EmbeddedStore
from tests.conftest import Connect, Serve, Settings
from tests.support.clients import CLIENTS, HttpClient
from tests.support.replay import Dashboard
from tests.support.servers import Clock, Process, command, eventually, serving

pytestmark = pytest.mark.each_store

KEEP = {"room_retention": 600.0}
"""Seconds of the clock that tests set; the servers look for such rooms once in a minute."""
LONG = 601.0
"""Seconds after which a room is evicted."""


async def run(app: App, room: str, connid: str = "a") -> dict[str, Any]:
    """A job of that room from its start to its end, which is its second event."""
    await command(app, "request", room=room, connid=connid, time=60)
    return (await command(app, "kill", room=room, connid=connid))["job"]


async def events_after(app: App, room: str, seq: int) -> list[int] | None:
    since = {"epoch": app.store.epoch, "seq": seq}
    events = (await command(app, "status", room=room, since=since)).get("events")
    return events and [event["seq"] for event in events]


async def seq_of(app: App, room: str) -> int:
    return (await command(app, "status", room=room))["seq"]


async def test_a_room_is_evicted_by_itself(serve: Serve) -> None:
    clock = Clock()
    app = await serve(room_retention=0.5, max_rooms=1, now=clock)
    await run(app, "build-1")
    full = await command(app, "request", room="build-2", connid="a", time=60)
    assert full["error"]["code"] == "too_many"
    clock.now += 1
    await eventually(lambda: app.store.rooms_evicted == 1)
    assert (await command(app, "request", room="build-2", connid="a", time=60))["ok"]
    full = await command(app, "request", room="build-3", connid="a", time=60)
    assert full["error"]["code"] == "too_many"


async def test_nothing_is_left_of_a_room_that_was_evicted(serve: Serve) -> None:
    clock = Clock()
    app = await serve(**KEEP, now=clock)
    job = await run(app, "old")
    await command(app, "stopped", room="old", connid="a", run=job["run"], exit=0)
    await run(app, "old", "b")
    clock.now += LONG
    await run(app, "young")
    await app.store.sweep()
    assert (await command(app, "history", room="old"))["jobs"] == []
    assert (await command(app, "status", room="old"))["jobs"] == []
    for name in ("stopped", "finish", "progress", "output"):
        fields = {"text": "late"} if name == "output" else {}
        answer = await command(app, name, room="old", connid="b", run=job["run"], **fields)
        assert answer["error"]["code"] == "not_running"
        assert answer["error"].get("job") is None
    assert await app.store.read_run("old", "a", job["run"]) == []
    assert await events_after(app, "young", 0) == [1, 2]
    assert len((await command(app, "history", room="young"))["jobs"]) == 1


@pytest.mark.parametrize("why", ["runs", "stopped of late", "is looked at", "is young"])
async def test_a_room_in_use_is_kept(serve: Serve, connect: Connect, why: str) -> None:
    clock = Clock()
    app = await serve(**KEEP, now=clock)
    job = await run(app, "used")
    await run(app, "unused")
    if why == "runs":
        await command(app, "request", room="used", connid="b", time=10_000)
    clock.now += LONG
    if why == "stopped of late":
        await command(app, "stopped", room="used", connid="a", run=job["run"], exit=0)
    elif why == "is young":
        await run(app, "used")
    elif why == "is looked at":
        client = await connect(app.url, rooms=["used"])
        await client.event("presence", watching=1)
    before = await events_after(app, "used", 0)
    await app.store.sweep()
    assert await events_after(app, "used", 0) == before
    assert await events_after(app, "unused", 0) is None
    if why == "is looked at":
        await client.close()
        await until_evicted(app, 2)


async def until_evicted(app: App, number: int) -> None:
    """Sweep until so many rooms were evicted."""
    async with asyncio.timeout(10):
        while app.store.rooms_evicted < number:
            await app.store.sweep()
            await asyncio.sleep(0.01)


async def test_without_a_bound_rooms_are_kept_for_good(serve: Serve) -> None:
    clock = Clock()
    app = await serve(room_retention=0, now=clock)
    await run(app, "old")
    clock.now += 1e9
    assert "sweep" not in app._tasks
    assert await events_after(app, "old", 0) == [1, 2]


async def test_old_positions_are_none_of_a_new_log(serve: Serve) -> None:
    clock = Clock()
    app = await serve(**KEEP, now=clock)
    for number in range(3):
        await run(app, "room", str(number))
    await run(app, "small")
    clock.now += LONG
    await app.store.sweep()
    floors = {room: await seq_of(app, room) for room in ("room", "small", "new")}
    assert floors["room"] > 6 and floors["small"] > 2 and floors["new"] == max(floors.values())
    await run(app, "room")
    floor = floors["room"]
    assert await events_after(app, "room", floor) == [floor + 1, floor + 2]
    for old in range(floor):
        assert await events_after(app, "room", old) is None
    clock.now += LONG
    await app.store.sweep()
    assert await seq_of(app, "room") > floor + 2


async def test_who_comes_back_is_sent_a_snapshot(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    app = await serve(**KEEP, now=clock)
    dashboard = Dashboard()
    seqs: list[int] = []

    async def visit(until: str) -> None:
        client = await connect(app.url, "websocket", rooms=["room"], since=since())
        await client.event(until)
        for name, body in client.events:
            dashboard.hear(name, body)
            seqs.append(dashboard.seq)
        await client.close()

    def since() -> dict[str, Any]:
        return {"room": dashboard.since} if dashboard.since else {}

    await run(app, "room")
    await visit("snapshot")
    assert (dashboard.seq, len(dashboard.ended)) == (2, 1)
    clock.now += LONG
    await until_evicted(app, 1)
    await command(app, "request", room="room", connid="new", time=60)
    await visit("snapshot")
    assert (list(dashboard.running), dashboard.ended) == (["new"], [])
    assert not dashboard.hole
    await command(app, "kill", room="room", connid="new")
    await visit("killed")
    assert dashboard.running == {} and not dashboard.hole
    assert seqs == sorted(seqs)


async def test_who_slips_in_is_sent_a_snapshot(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    app = await serve(**KEEP, now=clock, presence_interval=60)
    await run(app, "room")
    clock.now += LONG
    client = await connect(app.url, "websocket", rooms=["room"])
    first = await client.event("snapshot")
    watcher = await connect(app.url, "websocket", rooms=[])
    await watcher.command("join", {"room": "room", "connid": "next"})
    await app.store.sweep()
    second = await client.event("snapshot")
    assert second["epoch"] == first["epoch"] and second["seq"] > first["seq"]
    assert (second["running"], second["ended"]) == ([], [])
    started = await command(app, "request", room="room", connid="next", time=60)
    assert started["seq"] == second["seq"] + 1
    assert (await client.event("started"))["seq"] == started["seq"]
    assert (await watcher.event("started"))["seq"] == started["seq"]


async def test_a_restart_neither_keeps_rooms_longer_nor_lowers_a_seq(kept: Settings) -> None:
    clock = Clock()
    async with serving(**kept, **KEEP, now=clock) as app:
        await run(app, "old")
        job = await run(app, "stopped-late")
        clock.now += LONG / 2
        await command(app, "stopped", room="stopped-late", connid="a", run=job["run"], exit=0)
    clock.now += LONG / 2
    async with serving(**kept, **KEEP, now=clock) as app:
        await app.store.sweep()
        assert app.store.rooms_evicted == 1
        floor = await seq_of(app, "old")
        assert floor > 2
    async with serving(**kept, **KEEP, now=clock) as app:
        assert await seq_of(app, "old") == await seq_of(app, "never-there") == floor
        assert await events_after(app, "old", 2) is None
        await run(app, "old")
        assert await events_after(app, "old", floor) == [floor + 1, floor + 2]
    async with serving(**kept, **KEEP, now=clock) as app:
        assert await events_after(app, "old", floor) == [floor + 1, floor + 2]
        clock.now += LONG
        await app.store.sweep()
        assert await seq_of(app, "old") > floor + 2


@pytest.mark.slow
async def test_many_rooms_are_evicted_while_commands_are_answered(serve: Serve) -> None:
    clock = Clock()
    # So many changes at once may take a busy machine longer than Redis is given by default.
    app = await serve(**KEEP, now=clock, max_rooms=0, redis_timeout=30)
    rooms = [f"room-{number}" for number in range(3000)]
    await asyncio.gather(*(run(app, room) for room in rooms))
    clock.now += LONG
    sweeping = asyncio.create_task(app.store.sweep())
    answered = 0
    while not sweeping.done():
        assert (await run(app, "busy"))["state"] == "killed"
        answered += 1
    await sweeping
    assert answered > 1
    assert app.store.rooms_evicted == 3000
    assert await events_after(app, "room-7", 2) is None
    assert len(await events_after(app, "busy", await first_of(app, "busy")) or []) == 2 * answered


async def first_of(app: App, room: str) -> int:
    """The seq at which the log of a room begins."""
    jobs = (await command(app, "history", room=room, limit=500))["jobs"]
    return jobs[-1]["seq"] - 2


def store_of(app: App) -> EmbeddedStore:
    assert isinstance(app.store, EmbeddedStore)
    return app.store


async def test_what_is_decided_with_its_end_begins_another_log(tmp_path: Path) -> None:
    clock = Clock()
    async with serving(database=str(tmp_path / "jobs.db"), **KEEP, now=clock) as app:
        job = await run(app, "room")
        clock.now += LONG
        sweeping = asyncio.create_task(app.store.sweep())
        await asyncio.sleep(0)
        assert list(store_of(app)._decisions.batch.evicted) == ["room"], "it is not on its way yet"
        late = {"room": "room", "connid": "a", "run": job["run"], "exit": 0}
        stopped = asyncio.create_task(command(app, "stopped", **late))
        assert (await run(app, "room", "b"))["seq"] == await seq_of(app, "room") == 5
        await sweeping
        assert (await stopped)["error"]["code"] == "not_running"
        await told_as_one_log(app, job["run"])
    async with serving(database=str(tmp_path / "jobs.db"), **KEEP, now=clock) as app:
        await told_as_one_log(app, job["run"])


async def told_as_one_log(app: App, before: str) -> None:
    """That all tells of the log after seq 3, and nothing of the run that was `before`."""
    assert await events_after(app, "room", 3) == [4, 5]
    assert await events_after(app, "room", 2) is None
    (ended,) = (await command(app, "history", room="room"))["jobs"]
    assert ended["run"] != before
    board = await app.store.board("room")
    assert [job.run for job in board.ended] == [ended["run"]]
    assert await seq_of(app, "never-there") == 3


async def test_what_is_decided_while_its_end_is_written_begins_another_log(tmp_path: Path) -> None:
    clock = Clock()
    async with serving(database=str(tmp_path / "jobs.db"), **KEEP, now=clock) as app:
        job = await run(app, "room")
        clock.now += LONG
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as other:
            other.execute("begin immediate")  # Now nobody else can write.
            sweeping = asyncio.create_task(app.store.sweep())
            await eventually(lambda: not store_of(app)._decisions.batch.evicted)
            starting = asyncio.create_task(run(app, "room", "b"))
            await asyncio.sleep(0.01)
            assert (await app.store.board("room")).seq == 2
            other.rollback()
        await sweeping
        assert (await starting)["seq"] == 5
        await told_as_one_log(app, job["run"])


async def test_a_commit_that_fails_lets_go_of_nothing(tmp_path: Path, connect: Connect) -> None:
    clock = Clock()
    settings = {"database": str(tmp_path / "jobs.db"), "presence_interval": 60, **KEEP}
    async with serving(**settings, database_timeout=0.1, now=clock) as app:
        await run(app, "room")
        clock.now += LONG
        client = await connect(app.url, "websocket", rooms=["room"])
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as other:
            other.execute("begin immediate")
            sweeping = asyncio.create_task(app.store.sweep())
            await eventually(lambda: not store_of(app)._decisions.batch.evicted)
            asked = command(app, "request", room="room", connid="b", time=60)
            with pytest.raises(Unavailable):
                await sweeping
            assert (await asked)["error"]["code"] == "unavailable"
            other.rollback()
        assert app.store.rooms_evicted == 0
        assert await events_after(app, "room", 0) == [1, 2]
        assert len((await command(app, "history", room="room"))["jobs"]) == 1
        assert await seq_of(app, "never-there") == 0
        assert (await run(app, "room", "c"))["seq"] == 4
        await client.event("killed", seq=4)
        assert [name for name, _ in client.events].count("snapshot") == 1
        clock.now += LONG
        await app.store.sweep()
        assert await seq_of(app, "room") == 5


async def test_a_room_whose_first_start_fails_has_no_log(tmp_path: Path) -> None:
    clock = Clock()
    settings = {"database": str(tmp_path / "jobs.db"), "max_rooms": 1, **KEEP}
    async with serving(**settings, database_timeout=0.1, now=clock) as app:
        await run(app, "old")
        clock.now += LONG
        await app.store.sweep()
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as other:
            other.execute("begin immediate")
            failed = await command(app, "request", room="room", connid="a", time=60)
            assert failed["error"]["code"] == "unavailable"
            other.rollback()
        assert await seq_of(app, "room") == 3
        started = await command(app, "request", room="other", connid="a", time=60)
        assert (started["ok"], started["seq"]) == (True, 4)


async def test_a_server_that_is_killed_knows_the_positions_that_were(
    tmp_path: Path, connect: Connect
) -> None:
    async with Process(tmp_path / "jobs.db", ROOM_RETENTION="0.5") as server:
        client = await connect(server.url, "http")
        assert isinstance(client, HttpClient)
        for _ in range(3):
            job = {"connid": "a", "room": "room", "time": 60, "if_running": "replace"}
            assert (await client.command("request", job))["ok"]
        ended = await client.command("kill", {"connid": "a", "room": "room"})
        since = {"epoch": ended["epoch"], "seq": ended["seq"]}
        asked = {"room": "room", "since": since}
        end = time.monotonic() + 20
        while "events" in await client.command("status", asked):
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        await server.kill()
        await server.start()
        client = await connect(server.url, "http")
        answer = await client.command("status", asked)
        assert answer["epoch"] == ended["epoch"] and answer["jobs"] == []
        assert answer["seq"] == ended["seq"] + 1
        started = await client.command("request", {"connid": "a", "room": "room", "time": 60})
        assert started["seq"] == ended["seq"] + 2


class Wanderer:
    """Somebody who looks at a room now and then, and remembers where they were."""

    def __init__(self, room: str, order: Random) -> None:
        self.room = room
        self.order = order
        self.dashboard = Dashboard()
        self.emptied = 0

    def hear(self, name: str, body: dict[str, Any]) -> None:
        """Hear an event, whose seq must follow."""
        before, known = self.dashboard.seq, bool(self.dashboard.ended)
        self.dashboard.hear(name, body)
        assert self.dashboard.seq >= before
        assert not self.dashboard.hole, f"{body} does not follow {before}"
        self.emptied += known and not self.dashboard.ended

    async def wander(self, apps: list[App], done: asyncio.Event) -> None:
        while not done.is_set():
            await self.visit(self.order.choice(apps), self.order.choice([0, 0, 0.02, 0.3]))
            await asyncio.sleep(self.order.choice([0, 0.1, 0.5]))

    async def visit(self, app: App, seconds: float) -> None:
        """Be in the room for so long, from where they were on, and hear all until then."""
        client = CLIENTS["websocket"]()
        client.heard = self.hear  # type: ignore[method-assign]
        since = self.dashboard.since
        await client.connect(app.url, rooms=[self.room], since={self.room: since} if since else {})
        await asyncio.sleep(seconds)
        answer = await client.command("status", {"room": self.room})
        await eventually(lambda: self.dashboard.seq >= answer["seq"])
        await client.close()


@pytest.mark.slow
async def test_whoever_comes_and_goes_meanwhile_sees_what_is_there(
    store: str, kept: Settings
) -> None:
    order = Random(7)
    often = {**kept, "room_retention": 0.05, "presence_interval": 0.05, "rate_limit": 0}
    async with AsyncExitStack() as stack:
        number = 2 if store == "redis" else 1
        apps = [await stack.enter_async_context(serving(**often)) for _ in range(number)]
        wanderers = [Wanderer(f"room-{number % 4}", Random(number)) for number in range(12)]
        done = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for wanderer in wanderers:
                tasks.create_task(wanderer.wander(apps, done))
            for _ in range(150):
                await run(order.choice(apps), f"room-{order.randrange(4)}")
                await asyncio.sleep(order.choice([0, 0, 0.1]))
            done.set()
        assert sum(app.store.rooms_evicted for app in apps) > 10
        assert sum(wanderer.emptied for wanderer in wanderers) > 10
