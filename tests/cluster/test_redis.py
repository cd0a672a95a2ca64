"""Many servers on one Redis: they serve the same rooms as one, and survive what befalls them."""

import asyncio
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.app import App
from server.contract.messages import NULL, Job
from server.errors import Unavailable
from server.store.interface import EndJob, FinishDetails, Stale, StartJob, StoreError
from server.store.redis import scripts
from server.store.redis.next_due import NextDue
from server.store.redis.store import RedisStore
from tests.conftest import Connect, Settings
from tests.support import redis
from tests.support.clients import HttpClient
from tests.support.load import free_port
from tests.support.network import Proxy
from tests.support.redis import DatedServer, RedisServer, Sentinel, TlsServer
from tests.support.replay import replay_log
from tests.support.servers import Clock, Process, command, eventually, seen, serving

pytestmark = [pytest.mark.redis, pytest.mark.slow]

QUICK = {"redis_timeout": 0.5, "redis_heartbeat": 0.1, "redis_deaf": 0.5, "rate_limit": 0}
"""For the tests in which Redis is away, which take as long as that."""
PATIENT = {"redis_timeout": 10, "redis_heartbeat": 0.1, "redis_deaf": 10, "rate_limit": 0}
"""For those in which it is not, however busy the machine is."""
QUIET = {"REDIS_DEAF": "1", "REDIS_HEARTBEAT": "0.2", "STALL_TIMEOUT": "0.2"}
"""For processes of which one falls silent."""


@pytest.fixture
async def nodes() -> AsyncIterator[Any]:
    """Start servers that share a log: `await nodes(3)`."""
    async with AsyncExitStack() as stack:
        shared = redis.settings()

        async def start(number: int = 1, **settings: Any) -> list[App]:
            settings = {**shared, **PATIENT, **settings}
            return [await stack.enter_async_context(serving(**settings)) for _ in range(number)]

        yield start


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that keeps its data, to be killed and paused."""
    with RedisServer(tmp_path, keeps=True) as server:
        yield server


@pytest.fixture
def dated_redis(tmp_path: Path) -> Iterator[DatedServer]:
    """A Redis whose clock a test sets."""
    with DatedServer(tmp_path) as server:
        yield server


@asynccontextmanager
async def one_through_a_proxy(
    own_redis: RedisServer, settings: Settings
) -> AsyncIterator[tuple[Proxy, App, App]]:
    """Two servers that share a log, of which the second reaches it through the proxy alone."""
    async with (
        Proxy(own_redis.url) as proxy,
        serving(**settings, redis_url=own_redis.url) as one,
        serving(**settings, redis_url=proxy.url) as two,
    ):
        yield proxy, one, two


def store_of(app: App) -> RedisStore:
    assert isinstance(app.store, RedisStore)
    return app.store


def a_job(connid: str) -> Job:
    return Job(connid=connid, run=connid, room="main", time=60, started_at=0, deadline=60, by="ana")


async def log_of(app: App, room: str = "main") -> list[dict[str, Any]]:
    since = {"epoch": app.store.epoch, "seq": 0}
    return (await command(app, "status", room=room, since=since))["events"]


async def test_what_starts_on_one_node_is_killed_on_another(nodes: Any, connect: Connect) -> None:
    one, two, three = await nodes(3)
    watcher = await connect(two.url)
    job = (await command(one, "request", connid="a", time=60))["job"]
    assert (await watcher.event("started"))["job"] == job
    assert (await command(three, "status"))["jobs"][0]["run"] == job["run"]
    killed = await command(three, "kill", connid="a", reason="enough")
    assert (await watcher.event("killed"))["seq"] == killed["seq"] == 2
    assert (await command(one, "history"))["jobs"] == [killed["job"]]


async def test_a_node_sees_at_once_what_was_answered_on_another(nodes: Any) -> None:
    one, two = await nodes(2)
    await command(two, "status")  # So that it holds the room.
    for number in range(200):
        await command(one, "request", connid=str(number), time=60)
        assert len((await command(two, "status"))["jobs"]) == number + 1


async def test_of_two_starts_on_two_nodes_one_wins(nodes: Any) -> None:
    pair = await nodes(2)

    async def duel(connid: str) -> tuple[str, ...]:
        starts = (command(node, "request", connid=connid, time=60) for node in pair)
        answers = await asyncio.gather(*starts)
        (won,) = [answer["job"]["run"] for answer in answers if answer["ok"]]
        (lost,) = [answer for answer in answers if not answer["ok"]]
        assert lost["job"]["run"] == won
        return lost["error"]["code"], "started"

    outcomes: Counter[tuple[str, ...]] = Counter()
    for hundred in range(100):
        duels = (duel(f"{hundred}-{number}") for number in range(100))
        outcomes.update(await asyncio.gather(*duels))
    assert outcomes == {("conflict", "started"): 10_000}


async def test_all_nodes_tell_the_same_in_the_same_order(nodes: Any, connect: Connect) -> None:
    three = await nodes(3)
    clients = [await connect(node.url, "websocket") for node in three]
    for number in range(100):
        starts = (
            command(node, "request", connid=f"{number} {node.url}", time=60) for node in three
        )
        await asyncio.gather(*starts)
    for client in clients:
        await client.event("started", seq=300)
    heard = [
        [body["job"]["run"] for name, body in client.events if name == "started"]
        for client in clients
    ]
    assert heard[0] == heard[1] == heard[2]
    assert len(heard[0]) == 300


def test_of_what_is_due_next_the_newest_counts() -> None:
    clock = Clock(100.0)
    due = NextDue("b", clock)
    due.learn(b"90", 5)
    assert due.come()
    due.learn_taken(b"200", 5)  # The node has taken what was due at 90, of which no entry tells.
    assert not due.come()
    due.learn(b"90", 5)
    assert not due.come()
    due.learn(b"95", 7)
    due.learn_taken(b"200", 6)  # Answered before what was heard meanwhile.
    assert due.come()
    due.know(["a", "b", "c"])  # One of them comes first.
    clock.now = 95.1
    assert not due.come()
    clock.now = 95.3
    assert due.come()
    due.learn(b"", 8)
    assert not due.come()


async def test_timeouts_are_shared_and_little_is_done_in_vain(nodes: Any, connect: Connect) -> None:
    three = await nodes(3)
    client = await connect(three[0].url, "websocket")
    for number in range(60):
        node = three[number % 3]
        await command(node, "request", connid=str(number), time=0.1 + number / 100)
    for _ in range(60):
        assert "late" not in await client.event("finished")
    stores = [store_of(node) for node in three]
    assert sum(store.takes_in_vain for store in stores) <= sum(store.takes for store in stores) / 2
    ends = Counter(e["run"] for e in await log_of(three[1]) if e["event"] == "finished")
    assert set(ends.values()) == {1} and len(ends) == 60


async def test_nodes_whose_clocks_are_minutes_off_agree(nodes: Any, connect: Connect) -> None:
    (right,) = await nodes(1)
    (ahead,) = await nodes(1, now=lambda: time.time() + 300)
    assert abs(ahead.store.now() - right.store.now()) < 5
    client = await connect(ahead.url)
    job = (await command(ahead, "request", connid="a", time=0.3))["job"]
    finished = await client.event("finished")
    assert "late" not in finished
    assert finished["at"] >= job["deadline"]
    status = await command(ahead, "status")
    assert abs(status["now"] - right.store.now()) < 5


async def test_presence_is_counted_over_all_nodes(nodes: Any, connect: Connect) -> None:
    one, two = await nodes(2)
    ana = await connect(one.url, name="ana")
    await connect(two.url, name="bo")
    assert (await ana.event("presence", watching=2))["names"] == ["ana", "bo"]
    eve = await connect(two.url, name="eve")
    await ana.event("presence", watching=3)
    await eve.close()
    assert (await ana.event("presence", watching=2))["names"] == ["ana", "bo"]
    await two.stop()
    assert (await ana.event("presence", watching=1))["names"] == ["ana"]


async def test_a_dead_node_is_forgotten(own_redis: RedisServer, connect: Connect) -> None:
    settings = {**QUICK, "redis_url": own_redis.url}
    async with Proxy(own_redis.url) as proxy, serving(**settings) as one:
        ana = await connect(one.url, name="ana")
        async with serving(**{**settings, "redis_url": proxy.url}) as two:
            bo = await connect(two.url, name="bo")
            await ana.event("presence", watching=2)
            await command(two, "request", connid="a", time=0.2)
            proxy.cut()
            assert "late" not in await ana.event("finished")
            await ana.event("presence", watching=1)
            assert (await bo.event("available"))["available"] is False
            proxy.mend()
            assert (await bo.event("finished"))["connid"] == "a"
            assert (await bo.event("available"))["available"] is True
            await ana.event("presence", watching=2)
            await eventually(lambda: two.store.ready)


async def test_without_redis_commands_are_answered_and_all_comes_back(
    own_redis: RedisServer, connect: Connect
) -> None:
    async with serving(**QUICK, redis_url=own_redis.url) as app:
        client = await connect(app.url)
        await command(app, "request", connid="before", time=60)
        epoch = app.store.epoch
        own_redis.signal(signal.SIGSTOP)
        async with asyncio.timeout(10):
            names = ("request", "kill", "status", "history", "join")
            for name in names:
                fields = {"time": 60} if name == "request" else {}
                answer = await client.command(name, {"connid": "lost", "room": "main", **fields})
                assert answer["error"]["code"] == "unavailable"
        assert (await client.event("available"))["available"] is False
        assert not app.store.ready
        own_redis.signal(signal.SIGCONT)
        assert (await client.event("available"))["available"] is True
        assert app.store.ready
        answer = await client.command("request", {"connid": "after", "time": 60})
        assert answer["ok"]
        assert app.store.epoch == epoch
        # What was answered `unavailable` was not done afterwards.
        connids = [event["job"]["connid"] for event in await log_of(app)]
        assert connids == ["before", "after"]


async def test_a_redis_that_comes_back_with_its_data_goes_on(
    own_redis: RedisServer, connect: Connect
) -> None:
    async with serving(**QUICK, redis_url=own_redis.url) as app:
        client = await connect(app.url)
        await command(app, "request", connid="a", time=60)
        epoch = app.store.epoch
        own_redis.kill()
        await eventually(lambda: not app.store.ready)
        answer = await command(app, "request", connid="b", time=60)
        assert answer["error"]["code"] == "unavailable"
        assert "unknown" not in answer["error"]
        own_redis.start()
        await eventually(lambda: app.store.ready)
        assert (await command(app, "kill", connid="a"))["seq"] == 2
        assert (await client.event("killed"))["seq"] == 2
        assert app.store.epoch == epoch
        assert [name for name, _ in client.events].count("snapshot") == 1


async def test_a_redis_that_lost_its_data_is_a_new_epoch(
    own_redis: RedisServer, connect: Connect
) -> None:
    async with serving(**QUICK, redis_url=own_redis.url) as app:
        client = await connect(app.url)
        await command(app, "request", connid="a", time=60)
        old = (await client.event("snapshot"))["epoch"]
        await own_redis.call("FLUSHALL")
        snapshot = await client.event("snapshot")
        assert (snapshot["seq"], snapshot["running"]) == (0, [])
        assert snapshot["epoch"] == app.store.epoch != old
        await eventually(lambda: app.store.ready)
        assert (await command(app, "request", connid="a", time=60))["seq"] == 1
        assert (await client.event("started"))["seq"] == 1


async def test_a_redis_that_lost_its_last_changes_is_a_new_epoch(
    own_redis: RedisServer, connect: Connect
) -> None:
    async with serving(**QUICK, redis_url=own_redis.url) as app:
        client = await connect(app.url)
        await command(app, "request", connid="kept", time=60)
        await eventually(lambda: b"lost" not in own_redis.read_log())
        kept = own_redis.copy()
        await command(app, "request", connid="lost", time=60)
        old = app.store.epoch
        own_redis.kill()
        own_redis.restore(kept)
        own_redis.start()
        await client.event("snapshot", seq=0)
        snapshot = await client.event("snapshot", seq=1)
        assert [job["connid"] for job in snapshot["running"]] == ["kept"]
        assert snapshot["epoch"] == app.store.epoch != old


async def test_connections_that_are_killed_lose_nothing(
    own_redis: RedisServer, connect: Connect
) -> None:
    settings = {**PATIENT, "redis_url": own_redis.url}
    async with serving(**settings) as one, serving(**settings) as two:
        client = await connect(two.url, "websocket")
        for number in range(20):
            starts = [
                asyncio.create_task(command(one, "request", connid=f"{number}-{n}", time=60))
                for n in range(20)
            ]
            await asyncio.sleep(0.002)
            await own_redis.call("CLIENT", "KILL", "TYPE", "normal")
            answers = await asyncio.gather(*starts)
            assert all(answer["ok"] for answer in answers)
        await client.event("started", seq=400)
        seqs = [body["seq"] for name, body in client.events if name == "started"]
        assert seqs == list(range(1, 401))
        assert [name for name, _ in client.events].count("snapshot") == 1


async def test_what_was_done_before_the_line_was_cut_is_done_once(own_redis: RedisServer) -> None:
    settings = PATIENT
    async with Proxy(own_redis.url) as proxy, serving(**settings, redis_url=proxy.url) as app:
        await command(app, "request", connid="a", time=60)
        proxy.loses_replies = True
        kill = asyncio.create_task(command(app, "kill", connid="a"))
        await eventually(lambda: b"killed" in own_redis.read_log())
        proxy.loses_replies = False
        proxy.drop()
        answer = await kill
        assert (answer["result"], answer["seq"]) == ("killed", 2)
        assert [event["event"] for event in await log_of(app)] == ["started", "killed"]


async def test_a_change_that_comes_late_over_a_lost_line_is_not_made(nodes: Any) -> None:
    (app,) = await nodes(1)
    calls = store_of(app)._calls
    job = (await command(app, "request", connid="a", time=60))["job"]
    await command(app, "kill", connid="a")
    again = {**job, "progress": None, "run": "again"}
    start = StartJob(msgspec.convert(again, Job))
    what = scripts.arguments(start, app.config)
    late = calls._evaluate("change", calls.node, 1, 0, "4e9", 100, *what)
    assert (await calls._put(calls._orders, late))[0] == b"late"
    assert (await command(app, "status"))["jobs"] == []


async def test_a_node_stops_while_redis_is_away(own_redis: RedisServer, connect: Connect) -> None:
    async with serving(**QUICK, redis_url=own_redis.url) as app:
        await connect(app.url)
        await command(app, "request", connid="a", time=60)
        own_redis.signal(signal.SIGSTOP)
        asked = asyncio.create_task(command(app, "kill", connid="a"))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await app.stop()
            assert (await asked)["error"]["code"] == "unavailable"


async def test_a_log_that_has_grown_is_cut_to_a_new_bound(nodes: Any) -> None:
    (app,) = await nodes(1)
    for _ in range(1500):
        await command(app, "request", connid="a", time=60, if_running="replace")
    (small,) = await nodes(1, history=10)
    for _ in range(60):
        await command(small, "request", connid="a", time=60, if_running="replace")
    calls = store_of(small)._calls
    assert await calls.ask("XLEN", f"{calls.prefix}log:main") <= 110
    assert len((await command(small, "history", limit=500))["jobs"]) <= 60


async def test_an_outcome_that_nobody_knows_is_told_as_unknown(own_redis: RedisServer) -> None:
    async with Proxy(own_redis.url) as proxy, serving(**QUICK, redis_url=proxy.url) as app:
        await command(app, "request", connid="a", time=60)
        proxy.loses_replies = True
        answer = await command(app, "kill", connid="a")
        assert answer["error"]["code"] == "unavailable"
        assert answer["error"]["unknown"] is True
        proxy.mend()
        proxy.drop()
        await eventually(lambda: app.store.ready)
        assert [event["event"] for event in await log_of(app)] == ["started", "killed"]


async def test_a_node_that_has_missed_some_of_the_feed_reads_the_log(
    own_redis: RedisServer, connect: Connect
) -> None:
    settings = {**PATIENT, "redis_feed": 100, "max_backlog": 2**20}
    async with one_through_a_proxy(own_redis, settings) as (proxy, one, two):
        client = await connect(two.url, "websocket")
        job = (await command(one, "request", connid="a", time=60))["job"]
        await client.event("started")
        proxy.cut()
        await command(one, "progress", connid="a", run=job["run"], done=0.5)
        starts = (command(one, "request", connid=str(n), time=60) for n in range(1000))
        await asyncio.gather(*starts)
        proxy.mend()
        await client.event("progress", done=0.5)
        await command(one, "request", connid="last", time=60)
        await client.event("started", seq=1002)
        seqs = [body["seq"] for name, body in client.events if name == "started"]
        assert seqs == list(range(1, 1003))
        assert [name for name, _ in client.events].count("snapshot") == 1


async def test_a_node_that_has_missed_more_than_is_kept_sends_snapshots(
    own_redis: RedisServer, connect: Connect
) -> None:
    settings = {**PATIENT, "redis_feed": 100, "history": 100}
    async with one_through_a_proxy(own_redis, settings) as (proxy, one, two):
        client = await connect(two.url, "websocket")
        await client.event("snapshot", seq=0)
        proxy.cut()
        starts = (command(one, "request", connid=str(n), time=60) for n in range(1000))
        await asyncio.gather(*starts)
        proxy.mend()
        assert len((await client.event("snapshot", seq=1000))["running"]) == 1000
        board = await two.store.board("main")
        assert board.seq == 1000


async def test_who_comes_from_a_node_that_is_ahead_is_sent_no_snapshot(
    own_redis: RedisServer, connect: Connect
) -> None:
    async with one_through_a_proxy(own_redis, PATIENT) as (proxy, one, two):
        watcher = await connect(two.url)
        await command(one, "request", connid="a", time=60)
        await watcher.event("started", seq=1)
        proxy.hold()
        await command(one, "request", connid="b", time=60)
        since = {"main": {"epoch": one.store.epoch, "seq": 2}}
        back = await connect(two.url, since=since)
        proxy.mend()
        await command(one, "request", connid="c", time=60)
        await back.event("started", seq=3)
        assert [name for name, _ in back.events if name != "presence"] == ["started"]


async def test_rooms_that_are_evicted_are_empty_on_all_nodes(nodes: Any, connect: Connect) -> None:
    clock = Clock()
    kept = {"room_retention": 600, "presence_interval": 60, "now": clock}
    one, two = await nodes(2, **kept)
    for room in ("old", "older"):
        await command(one, "request", room=room, connid="a", time=60)
        await command(one, "kill", room=room, connid="a")
    clock.now += 601
    clients = [await connect(node.url, "websocket", rooms=["old", "new"]) for node in (one, two)]
    stale = [await node.store.board("old") for node in (one, two)]
    await one.store.sweep()
    assert (one.store.rooms_evicted, two.store.rooms_evicted) == (2, 0)
    (three,) = await nodes(1, **kept)
    for room in ("old", "older", "new", "elsewhere"):
        for node in (one, two, three):
            assert (await command(node, "history", room=room))["seq"] == 3
            status = await command(node, "status", room=room)
            assert (status["seq"], status["jobs"]) == (3, [])
            assert await node.store.read(room, 2) is None
    assert [(board.seq, list(board.ended)) for board in stale] == [(3, [])] * 2
    for client in clients:
        for room in ("old", "new"):
            snapshot = await client.event("snapshot", room=room, seq=3)
            assert (snapshot["running"], snapshot["ended"]) == ([], [])
    for room, node in (("old", two), ("new", three)):
        job = (await command(node, "request", room=room, connid="b", time=60))["job"]
        for client in clients:
            assert (await client.event("started", room=room, seq=4))["job"] == job
    events = await one.store.read("old", 3)
    assert events is not None and [entry.event.seq for entry in events] == [4]
    assert await store_of(one)._calls.ask("HLEN", f"{store_of(one)._calls.prefix}rooms") == 2


async def test_who_comes_from_a_node_that_has_heard_of_the_end_of_a_room_waits_for_it(
    own_redis: RedisServer, connect: Connect
) -> None:
    clock = Clock()
    kept = {**PATIENT, "room_retention": 600, "presence_interval": 60, "now": clock}
    async with one_through_a_proxy(own_redis, kept) as (proxy, one, two):
        watcher = await connect(two.url)
        await command(one, "request", connid="a", time=60)
        await command(one, "kill", connid="a")
        await watcher.event("killed", seq=2)
        await watcher.command("join", {"room": "empty"})
        clock.now += 601
        proxy.hold()
        await one.store.sweep()
        since = {room: {"epoch": one.store.epoch, "seq": 3} for room in ("main", "empty")}
        coming = asyncio.ensure_future(connect(two.url, rooms=["main", "empty"], since=since))
        await asyncio.sleep(0.1)
        proxy.mend()
        client = await coming
        await watcher.event("snapshot", room="main", seq=3)
        await watcher.event("snapshot", room="empty", seq=3)
        for room in ("main", "empty"):
            await command(one, "request", room=room, connid="b", time=60)
            await client.event("started", room=room, seq=4)
            await watcher.event("started", room=room, seq=4)
        assert "snapshot" not in [name for name, _ in client.events]


async def test_a_node_that_has_missed_the_end_of_a_room_sends_snapshots(
    own_redis: RedisServer, connect: Connect
) -> None:
    clock = Clock()
    kept = {
        **PATIENT,
        "room_retention": 600,
        "redis_feed": 100,
        "presence_interval": 60,
        "now": clock,
    }
    async with one_through_a_proxy(own_redis, kept) as (proxy, one, two):
        for room in ("main", "unseen"):
            await command(two, "request", room=room, connid="a", time=60)
            await command(two, "kill", room=room, connid="a")
        client = await connect(two.url, "websocket", rooms=["main", "empty"])
        await client.event("snapshot", room="main", seq=2)
        await client.event("snapshot", room="empty", seq=0)
        clock.now += 601
        proxy.cut()
        await one.store.sweep()
        starts = (command(one, "request", connid=str(number), time=60) for number in range(1000))
        await asyncio.gather(*starts)
        proxy.mend()
        snapshot = await client.event("snapshot", room="main", seq=1003)
        assert len(snapshot["running"]) == 1000
        await client.event("snapshot", room="empty", seq=3)
        assert await two.store.seq("empty") == await two.store.seq("unseen") == 3


async def test_rooms_that_could_not_be_read_anew_are_read_again(
    own_redis: RedisServer, connect: Connect
) -> None:
    kept = {**PATIENT, "redis_feed": 100}
    async with one_through_a_proxy(own_redis, kept) as (proxy, one, two):
        client = await connect(two.url, "websocket", rooms=["main"])
        await client.event("snapshot", room="main", seq=0)
        boards = store_of(two)._boards
        mend, fails = boards.mend, [Unavailable("the connection was lost once more")]

        async def fail_once() -> None:
            if fails:
                raise fails.pop()
            await mend()

        boards.mend = fail_once  # type: ignore[method-assign]
        proxy.cut()
        await command(one, "request", room="main", connid="a", time=60)
        starts = (
            command(one, "request", room="ops", connid=str(number), time=60)
            for number in range(1000)
        )
        await asyncio.gather(*starts)
        proxy.mend()
        await client.event("started", room="main", seq=1)
        assert not fails


async def test_a_board_is_held_only_as_long_as_it_is_needed(nodes: Any, connect: Connect) -> None:
    (app,) = await nodes(1, redis_keep=0.1, presence_interval=0.05)
    for number in range(20):
        await command(app, "status", room=f"room-{number}")
    client = await connect(app.url)
    await eventually(lambda: set(store_of(app)._boards._held) == {"main"})
    await client.close()
    await eventually(lambda: not store_of(app)._boards._held)


async def test_who_asks_on_when_refused_is_answered(own_redis: RedisServer) -> None:
    answered: list[str] = []
    async with Proxy(own_redis.url) as proxy, serving(**QUICK, redis_url=proxy.url) as app:

        def ask(connid: str) -> None:
            completion = app.store.submit(StartJob(a_job(connid)))
            completion.then(partial(go_on, connid))

        def go_on(connid: str) -> None:
            answered.append(connid)
            if connid.startswith("first"):
                ask(connid.replace("first", "second"))

        proxy.hold()
        for number in range(1000):
            ask(f"first {number}")
        await eventually(lambda: len(answered) == 2000)
        proxy.mend()


INNARDS = re.compile(r"[0-9a-f]{40}|script|lua|ERR|:\d+:|@|[Rr]edis|WRONGTYPE|NOPERM")
"""What only Redis would say: names of scripts, their lines, its codes."""


async def fill_memory(server: RedisServer) -> None:
    """Let it have less memory than it uses."""
    assert await server.call("CONFIG", "SET", "maxmemory", 1) == b"+OK"


def refused(answer: dict[str, Any]) -> dict[str, Any]:
    """The error of an answer that says that the store cannot do it, in words of ours."""
    error = answer["error"]
    assert error["code"] == "unavailable", answer
    assert not INNARDS.search(error["message"]), answer
    return error


async def test_out_of_memory_nothing_starts_and_all_can_end(
    own_redis: RedisServer, connect: Connect
) -> None:
    settings = {**PATIENT, "redis_url": own_redis.url, "redis_deaf": 2}
    async with serving(**settings) as one, serving(**settings) as two:
        watcher = await connect(one.url, "websocket", name="ana")
        runs = {}
        for connid in ("killed", "done", "leased", "old", "left"):
            lease = {"lease": 3} if connid == "leased" else {}
            started = await command(one, "request", connid=connid, time=600, **lease)
            runs[connid] = {"connid": connid, "run": started["job"]["run"]}
        await command(one, "request", connid="due", time=2)
        await fill_memory(own_redis)

        for again in ({}, {"if_running": "keep"}, {"room": "another"}):
            error = refused(await command(one, "request", connid="new", time=60, **again))
            assert "memory" in error["message"] and "nothing was changed" in error["message"]
            assert not error.get("unknown")
        error = refused(await command(two, "request", connid="old", time=60, if_running="replace"))
        assert "memory" in error["message"]
        conflicts = (command(two, "request", connid="old", time=60) for _ in range(10))
        for answer in await asyncio.gather(*conflicts):
            assert (answer["error"]["code"], answer["job"]["run"]) == (
                "conflict",
                runs["old"]["run"],
            )
        assert "memory" in refused(await command(one, "output", **runs["old"], text="x"))["message"]

        assert (await command(two, "kill", connid="killed", reason="full"))["ok"]
        assert (await command(one, "stopped", **runs["killed"], exit=1))["ok"]
        assert (await command(one, "kill", connid="killed"))["error"]["code"] == "not_running"
        assert (await command(two, "finish", **runs["done"]))["ok"]
        # Whoever reports keeps its lease, and what is due ends in time, on whichever node.
        for _ in range(40):
            assert (await command(one, "progress", **runs["leased"], done=0.5))["ok"]
            await asyncio.sleep(0.1)
        finished = await watcher.event("finished", connid="due")
        assert (finished["outcome"], finished.get("late")) == ("elapsed", None)
        assert "leased" in (await one.store.board("main")).running

        # The nodes hear each other, and more may come.
        assert one.store.ready and two.store.ready
        bo = await connect(two.url, "websocket", name="bo")
        assert (await bo.event("presence", watching=2))["names"] == ["ana", "bo"]
        async with serving(**settings) as three:
            assert (await command(three, "kill", connid="old"))["ok"]
        await watcher.event("killed", connid="old")
        status = await command(one, "status")
        assert sorted(job["connid"] for job in status["jobs"]) == ["leased", "left"]

        await own_redis.call("CONFIG", "SET", "maxmemory", 0)
        assert (await command(one, "request", connid="new", time=60))["ok"]
        events = await log_of(two)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


async def test_a_new_log_that_finds_no_memory_is_told(own_redis: RedisServer) -> None:
    await fill_memory(own_redis)
    with pytest.raises(StoreError, match="out of memory"):
        async with serving(**QUICK, redis_url=own_redis.url):
            pass


BROKEN = {
    "wrong types": "SET {{hourglass}}:{}:main x",
    "no replicas": "CONFIG SET min-replicas-to-write 1",
    "no rights": "ACL SETUSER default -xadd -hset -hget -hvals -zrevrange -set -zrevrangebyscore",
}
"""How a Redis comes to refuse what it is asked."""


@pytest.mark.parametrize("how", BROKEN)
async def test_no_words_of_redis_reach_a_client(
    own_redis: RedisServer, connect: Connect, how: str
) -> None:
    settings = {**PATIENT, "redis_timeout": 2, "redis_url": own_redis.url}
    async with serving(**settings) as app:
        job = (await command(app, "request", connid="a", time=60))["job"]
        client = await connect(app.url, "http")
        assert isinstance(client, HttpClient)
        run = {"connid": "a", "run": job["run"]}
        kinds = ("running", "log", "progress", "ends", "runs") if "{}" in BROKEN[how] else ("",)
        for kind in kinds:
            for line in ("DEL {{hourglass}}:{}:main", BROKEN[how]) if kind else (BROKEN[how],):
                assert not (await own_redis.call(*line.format(kind).split())).startswith(b"-")
        answers = [
            await client.command(name, payload)
            for name, payload in {
                "request": {"connid": "b", "time": 60},
                "kill": {"connid": "a"},
                "status": {"connid": "a"},
                "finish": run,
                "progress": run,
                "stopped": run,
                "output": {**run, "text": "x"},
                "history": {},
                "rooms": {},
            }.items()
        ]
        failed = [answer for answer in answers if not answer["ok"]]
        assert len(failed) >= 4
        for answer in failed:
            if answer["error"]["code"] != "not_running":
                refused(answer)
        for path in ("/metrics", "/readyz"):
            async with client._session.get(path) as response:
                assert response.status == 200 or not INNARDS.search(await response.text())


async def test_connections_are_few_and_are_closed(own_redis: RedisServer) -> None:
    async with serving(**PATIENT, redis_url=own_redis.url) as app:
        await command(app, "request", connid="a", time=60)
        questions = (command(app, "history", room=str(number)) for number in range(500))
        await asyncio.gather(*questions)
        assert (await own_redis.clients()) == 3
    assert (await own_redis.clients()) == 0


async def test_the_whole_log_can_be_replayed_on_any_node(nodes: Any) -> None:
    one, two = await nodes(2)
    for number in range(50):
        job = (
            await command(one, "request", connid=str(number % 7), time=60, if_running="replace")
        )["job"]
        await command(two, "progress", connid=job["connid"], run=job["run"], done=0.5)
    board = await two.store.board("main")
    dashboard = replay_log(await log_of(two), two.store.epoch)
    assert dashboard.seq == board.seq
    assert set(dashboard.running) == set(board.running)


async def test_a_polling_client_is_told_why_it_may_not_come_in(connect: Connect) -> None:
    settings = redis.settings()
    del settings["transports"]
    async with serving(**settings) as app:
        with pytest.raises(Exception, match="WebSocket"):
            await connect(app.url, "polling")
        client = await connect(app.url, "http")
        assert isinstance(client, HttpClient)
        async with client._session.get("/socket.io/?EIO=4&transport=polling") as response:
            assert response.status == 400
            assert "transports" in (await response.json())["message"]


async def test_a_certificate_that_nobody_signed_is_taken_only_if_allowed(tmp_path: Path) -> None:
    with TlsServer(tmp_path) as server:
        with pytest.raises(StoreError, match=r"rediss://.*certificate"):
            async with serving(**QUICK, redis_url=server.url):
                pass
        async with serving(**PATIENT, redis_url=server.url, redis_tls_verify=False) as app:
            assert (await command(app, "request", connid="a", time=60))["ok"]


async def test_sentinels_tell_where_redis_is(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second", "sentinel")]
    for folder in folders:
        folder.mkdir()
    with RedisServer(folders[0]) as first, RedisServer(folders[1]) as second:
        await second.call("REPLICAOF", "127.0.0.1", first.port)
        with Sentinel(folders[2], first) as sentinel:
            async with serving(**QUICK, redis_url=sentinel.url) as app:
                assert (await command(app, "request", connid="a", time=60))["ok"]
                await sentinel.tells("master0", "slaves=1")
                await second.tells("master_link_status", "up")
                await second.has_reached(first)
                first.kill()
                await eventually(lambda: not app.store.ready)
                async with asyncio.timeout(20):
                    while not (answer := await command(app, "status"))["ok"]:
                        assert answer["error"]["code"] == "unavailable"
                assert [job["connid"] for job in answer["jobs"]] == ["a"]


async def test_a_redis_that_cannot_be_reached_is_told() -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0?password=secret"
    with pytest.raises(StoreError, match="cannot be used") as told:
        async with serving(**QUICK, redis_url=url):
            pass
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["http://x", "redis+sentinel://host:26379", "redis://h:port", "redis://:sec/ret@h"]
)
async def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(StoreError, match="REDIS_URL") as told:
        async with serving(redis_url=url):
            pass
    assert "sec" not in str(told.value).replace("SERVICE", "")


@pytest.mark.parametrize("by", [3600, -3600])
async def test_a_job_gets_its_time_while_redis_s_clock_is_set(
    dated_redis: DatedServer, nodes: Any, connect: Connect, by: int
) -> None:
    one, two = await nodes(2, redis_url=dated_redis.url, redis_deaf=5)
    ana, bo = await connect(one.url, name="ana"), await connect(two.url, name="bo")
    await ana.event("presence", watching=2)
    job = (await ana.command("request", {"connid": "a", "time": 3, "lease": 30}))["job"]
    idle = await run_once(one, "idle")
    heard = len(ana.events)
    dated_redis.date.set_by(by)
    beats = store_of(one)._membership.beats
    await eventually(lambda: store_of(one)._membership.beats > beats + 2)
    (running,) = (await bo.command("status"))["jobs"]
    assert running["remaining"] <= 3
    report = {"connid": "a", "run": job["run"]}
    assert (await command(two, "progress", **report))["ok"]
    second = (await command(one, "request", connid="b", time=60))["job"]
    assert job["started_at"] < second["started_at"] < job["started_at"] + 3
    await two.store.sweep()
    assert (await command(two, "history", room="idle"))["jobs"] == [idle]
    end = await bo.event("finished", connid="a")
    assert end["outcome"] == "elapsed" and "late" not in end
    assert job["deadline"] <= end["at"] < job["deadline"] + 2
    times = [event["at"] for event in await log_of(one)]
    assert times == sorted(times)
    # Nobody was held to be gone.
    assert {body["watching"] for name, body in ana.events[heard:] if name == "presence"} <= {2}


@pytest.mark.parametrize("by", [3600, -3600])
async def test_a_node_that_dies_is_missed_after_redis_s_clock_was_set(
    dated_redis: DatedServer, tmp_path: Path, nodes: Any, connect: Connect, by: int
) -> None:
    deaf = {"redis_heartbeat": 0.2, "redis_deaf": 1}
    (one,) = await nodes(1, redis_url=dated_redis.url, **deaf)
    place = {"REDIS_URL": one.config.redis_url, "REDIS_PREFIX": one.config.redis_prefix}
    environ = {**place, **{name.upper(): str(value) for name, value in deaf.items()}}
    async with Process(tmp_path / "unused.db", **environ) as two:
        ana, _ = await connect(one.url, name="ana"), await connect(two.url, "websocket", name="bo")
        await ana.event("presence", watching=2)
        dated_redis.date.set_by(by)
        beats = store_of(one)._membership.beats
        await eventually(lambda: store_of(one)._membership.beats > beats + 2)
        await two.kill()
        await ana.event("presence", watching=1)


async def run_once(app: App, room: str) -> dict[str, Any]:
    """A job of that room from its start to its end."""
    await command(app, "request", room=room, connid="a", time=60)
    return (await command(app, "kill", room=room, connid="a"))["job"]


async def test_a_node_that_comes_takes_the_time_of_the_others(nodes: Any) -> None:
    (one,) = await nodes(1)
    for off in (-3600, 3600):
        (other,) = await nodes(1, now=lambda off=off: time.time() + off)
        assert abs(other.store.now() - one.store.now()) < 1
        assert abs(other.store.clock.drift - off) < 2
        assert abs(one.store.clock.drift) < 1


async def test_owners_keep_their_jobs_while_redis_stands_still(own_redis: RedisServer) -> None:
    quick = {**QUICK, "redis_timeout": 1, "stall_timeout": 0.5}
    async with serving(**quick, redis_url=own_redis.url) as app:
        job = (await command(app, "request", connid="leased", time=60, lease=1))["job"]
        await command(app, "request", connid="short", time=1.2)
        own_redis.signal(signal.SIGSTOP)
        report = {"connid": "leased", "run": job["run"]}
        refused = await command(app, "progress", **report)
        assert refused["error"]["code"] == "unavailable"
        await eventually(lambda: app.store.now() > job["started_at"] + 2)
        own_redis.signal(signal.SIGCONT)
        while not sum(app.counts.lateness.counts):
            await command(app, "progress", **report)
        assert (await command(app, "progress", **report))["ok"]
        (end,) = (await command(app, "history"))["jobs"]
        assert (end["connid"], end["outcome"]) == ("short", "elapsed")
        await eventually(lambda: sum(app.counts.lateness.counts) == 2)  # Its owner is silent.
        assert (await command(app, "history", limit=1))["jobs"][0]["outcome"] == "lost"


async def test_a_node_that_stood_still_ends_no_job_of_another_s_owner(
    own_redis: RedisServer, tmp_path: Path, connect: Connect
) -> None:
    environ = {"REDIS_URL": own_redis.url, "REDIS_DEAF": "1", "REDIS_HEARTBEAT": "0.2"}
    unused = tmp_path / "unused.db"
    # The one that came first ends what is due before the others do.
    async with Process(unused, **environ) as one, Process(unused, **environ) as two:
        owner = await connect(two.url, "websocket")
        job = (await owner.command("request", {"connid": "a", "time": 60, "lease": 1}))["job"]
        one._signal(signal.SIGSTOP)
        for _ in range(10):
            await asyncio.sleep(0.25)
            assert (await owner.command("progress", {"connid": "a", "run": job["run"]}))["ok"]
        one._signal(signal.SIGCONT)
        for _ in range(4):
            await asyncio.sleep(0.25)
            assert (await owner.command("progress", {"connid": "a", "run": job["run"]}))["ok"]
        assert [body["run"] for name, body in owner.events if name == "finished"] == []
        assert (await owner.event("finished"))["outcome"] == "lost"


async def test_owners_keep_their_jobs_while_their_node_stands_still(
    own_redis: RedisServer, tmp_path: Path, connect: Connect
) -> None:
    unused, environ = tmp_path / "unused.db", {"REDIS_URL": own_redis.url, **QUIET}
    async with Process(unused, **environ) as one, Process(unused, **environ) as two:
        owner, watcher = await connect(one.url, "websocket"), await connect(two.url, "websocket")
        job = (await owner.command("request", {"connid": "a", "time": 60, "lease": 2}))["job"]
        await owner.command("request", {"connid": "short", "time": 2.5, "lease": 2})
        one._signal(signal.SIGSTOP)
        reports = []
        for _ in range(10):
            await asyncio.sleep(0.25)
            report = owner.command("progress", {"connid": "a", "run": job["run"]})
            reports.append(asyncio.create_task(report))
        short = await watcher.event("finished")
        assert (short["connid"], short["outcome"]) == ("short", "elapsed")
        one._signal(signal.SIGCONT)
        assert all([(await report)["ok"] for report in reports])
        status = await watcher.command("status")
        assert [running["run"] for running in status["jobs"]] == [job["run"]]
        # Whose owner is silent from now on is lost all the same.
        assert (await watcher.event("finished", connid="a"))["outcome"] == "lost"


async def test_leases_begin_anew_once_when_their_node_has_died(
    own_redis: RedisServer, tmp_path: Path, connect: Connect
) -> None:
    unused, environ = tmp_path / "unused.db", {"REDIS_URL": own_redis.url, **QUIET}
    async with Process(unused, **environ) as one, Process(unused, **environ) as two:
        owner, watcher = await connect(one.url, "websocket"), await connect(two.url, "websocket")
        job = (await owner.command("request", {"connid": "a", "time": 60, "lease": 2}))["job"]
        await one.kill()
        end = await watcher.event("finished")
        assert end["outcome"] == "lost"
        assert 4 <= end["at"] - job["started_at"] < 6


async def test_a_job_is_lost_only_while_its_lease_is_over(nodes: Any) -> None:
    (app,) = await nodes(1)
    store = store_of(app)
    job = (await command(app, "request", connid="a", time=60, lease=30))["job"]
    lost = EndJob("main", "a", 0.0, FinishDetails(job["run"], "lost", NULL, True))
    with pytest.raises(Stale):  # As by a node that took it before its owner reported.
        await store.submit(lost)
    assert len((await command(app, "status"))["jobs"]) == 1


async def test_a_lost_job_is_amended_through_another_node(nodes: Any, connect: Connect) -> None:
    clock = Clock()
    one, two = await nodes(2, now=clock)
    begun = await command(one, "request", connid="a", time=600, lease=10)
    watcher = await connect(one.url)
    clock.now += 11
    await watcher.event("finished")
    lost = {"connid": "a", "run": begun["job"]["run"]}
    answers = await asyncio.gather(
        *(command(node, "finish", **lost, outcome="done") for node in (one, two, one, two))
    )
    (amended,) = [answer["job"] for answer in answers if answer["ok"]]
    assert (await watcher.event("amended"))["outcome"] == "done"
    for node in (one, two):
        assert seen(list((await node.store.board("main")).ended)) == [amended]
        assert (await command(node, "history"))["jobs"] == [amended]


async def test_running_jobs_whose_key_is_gone_are_put_back(nodes: Any, connect: Connect) -> None:
    clock = Clock()
    (app,) = await nodes(1, now=clock)
    calls = store_of(app)._calls
    watcher = await connect(app.url)
    asked = [
        {"connid": "lapses", "time": 5},
        {"connid": "killed", "time": 60, "note": "a note"},
        {"connid": "replaced", "time": 60, "lease": 50},
        {"connid": "done", "time": 60},
        {"connid": "longer", "time": 5, "note": '"time":1,"deadline":2'},
    ]
    jobs = {each["connid"]: (await command(app, "request", **each))["job"] for each in asked}

    longer = (await command(app, "extend", connid="longer", time=60))["job"]

    async def lose() -> None:
        assert await calls.ask("DEL", f"{calls.prefix}running:main") == 1

    await lose()
    assert (await command(app, "kill", connid="killed"))["job"]["note"] == "a note"
    await lose()
    answer = await command(app, "request", connid="replaced", time=60, if_running="replace")
    assert answer["result"] == "started"
    await watcher.event("killed", run=jobs["replaced"]["run"])
    await lose()
    assert (await command(app, "finish", connid="done", run=jobs["done"]["run"]))["ok"]
    await lose()
    clock.now += 6
    await watcher.event("finished", connid="lapses", outcome="elapsed")
    assert (await command(app, "status", connid="replaced"))["ok"]
    (running,) = (await command(app, "status", connid="longer"))["jobs"]
    assert (running["time"], running["deadline"]) == (65, longer["deadline"])
    assert replay_log(await log_of(app), app.store.epoch).state()["running"].keys() == {
        "replaced",
        "longer",
    }


async def test_a_job_of_which_nothing_is_left_is_stepped_over(
    nodes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    (app,) = await nodes(1, now=clock)
    calls = store_of(app)._calls
    await command(app, "request", connid="gone", room="ops", time=5, lease=4)
    await command(app, "request", connid="kept", time=5)
    await calls.ask("DEL", f"{calls.prefix}running:ops", f"{calls.prefix}log:ops")
    clock.now += 6
    board = await app.store.board("main")
    await eventually(lambda: not board.running)
    assert board.ended[-1].outcome == "elapsed"
    await eventually(lambda: "ops:gone is gone from Redis" in caplog.text)
    assert await calls.ask("ZCARD", f"{calls.prefix}due") == 0


async def test_a_redis_that_evicts_keys_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(tmp_path) as server:
        async with serving(redis_url=server.url):
            assert "maxmemory-policy" not in caplog.text
        await server.call("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
        async with serving(redis_url=server.url):
            assert "maxmemory-policy volatile-lru" in caplog.text
