"""Rooms and sync: snapshots, missed events, watching one job, presence, progress, slow readers."""

import asyncio
from typing import Any

import pytest

from server.app import App
from tests.conftest import Connect, Serve
from tests.support.clients import PythonClient, Slow, TestClient
from tests.support.servers import command, eventually

pytestmark = pytest.mark.each_store

HEARING = ["python", "polling", "node", "websocket"]


@pytest.fixture(params=HEARING)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


async def start(client: TestClient, connid: str, **fields: Any) -> dict[str, Any]:
    answer = await client.command("request", {"connid": connid, "time": 60, **fields})
    assert answer["ok"], answer
    return answer["job"]


async def barrier(client: TestClient) -> None:
    """All that was sent to a client before this has arrived when it returns."""
    await client.command("status")


def names(client: TestClient) -> list[str]:
    return [name for name, _ in client.events if name != "presence"]


async def test_a_client_is_sent_a_snapshot_of_its_rooms(
    app: App, connect: Connect, kind: str
) -> None:
    client = await connect(app.url, kind)
    first = await client.event("snapshot", room="main")
    assert (first["seq"], first["running"], first["ended"]) == (0, [], [])
    assert first["epoch"] == app.store.epoch
    job = await start(client, "a")
    other = await connect(app.url, kind, rooms=["main", "ops"])
    snapshot = await other.event("snapshot", room="main")
    assert (snapshot["seq"], snapshot["running"]) == (1, [job])
    assert abs(snapshot["now"] - job["started_at"]) < 10
    await other.event("snapshot", room="ops")


async def test_a_client_may_be_in_no_room(app: App, connect: Connect, kind: str) -> None:
    client = await connect(app.url, kind, rooms=[])
    await start(client, "a")
    await barrier(client)
    assert client.events == []


@pytest.mark.parametrize(("text", "rooms"), [("main,ops", ["main", "ops"]), ("", [])])
async def test_rooms_may_be_a_text_as_some_clients_send_no_arrays(
    app: App, connect: Connect, text: str, rooms: list[str]
) -> None:
    client = await connect(app.url, rooms=text)
    await barrier(client)
    assert [body["room"] for name, body in client.events if name == "snapshot"] == rooms


async def test_everyone_hears_a_job_s_life(app: App, connect: Connect, kind: str) -> None:
    one, two = await connect(app.url, kind, name="ana"), await connect(app.url, kind, name="bo")
    job = await start(one, "a")
    started = await two.event("started")
    assert (started["seq"], started["room"], started["job"]) == (1, "main", job)
    assert started["at"] == job["started_at"]
    await two.command("kill", {"connid": "a", "reason": "why not"})
    for client in (one, two):
        killed = await client.event("killed")
        assert (killed["seq"], killed["connid"], killed["run"]) == (2, "a", job["run"])
        assert (killed["by"], killed["reason"]) == ("bo", "why not")
    await one.command("stopped", {"connid": "a", "run": job["run"], "exit": 0})
    assert (await two.event("stopped"))["exit"] == 0
    await start(one, "b", time=0.05)
    finished = await two.event("finished", connid="b")
    assert (finished["outcome"], finished["result"]) == ("elapsed", None)
    assert "late" not in finished


async def test_other_rooms_hear_nothing(app: App, connect: Connect, kind: str) -> None:
    client, other = await connect(app.url, kind), await connect(app.url, kind, rooms=["other"])
    await start(client, "a")
    await barrier(other)
    assert names(other) == ["snapshot"]


async def test_join_and_leave(app: App, connect: Connect, kind: str) -> None:
    client = await connect(app.url, kind, rooms=[])
    await start(client, "a")
    answer = await client.command("join", {"room": "main"})
    assert (answer["result"], answer["seq"]) == ("joined", 1)
    assert (await client.event("snapshot"))["seq"] == 1
    await start(client, "b")
    await client.event("started")
    assert (await client.command("leave", {"room": "main"}))["result"] == "left"
    await start(client, "c")
    await barrier(client)
    assert names(client) == ["snapshot", "started"]


async def test_the_answer_to_a_join_comes_before_the_snapshot(app: App, connect: Connect) -> None:
    client = await connect(app.url, rooms=[])
    assert isinstance(client, PythonClient)
    seen: list[str] = []
    client.sio.on("snapshot", lambda _: seen.append("snapshot"))
    await client.sio.emit("join", {"room": "main"}, callback=lambda _: seen.append("joined"))
    await barrier(client)
    await barrier(client)
    assert seen == ["joined", "snapshot"]


async def test_a_client_that_reconnects_is_sent_what_it_missed(
    app: App, connect: Connect, kind: str
) -> None:
    client = await connect(app.url, kind, rooms=[])
    for connid in ("a", "b", "c"):
        await start(client, connid)
    since = {"main": {"epoch": app.store.epoch, "seq": 1}}
    back = await connect(app.url, kind, since=since)
    assert (await back.event("started"))["seq"] == 2
    assert (await back.event("started"))["seq"] == 3
    await start(client, "d")
    assert (await back.event("started"))["seq"] == 4
    assert names(back) == ["started"] * 3


async def test_a_hole_is_filled_by_joining_again(app: App, connect: Connect, kind: str) -> None:
    client = await connect(app.url, kind)
    for connid in ("a", "b", "c"):
        await start(client, connid)
    since = {"epoch": app.store.epoch, "seq": 1}
    await client.command("join", {"room": "main", "since": since})
    await barrier(client)
    seqs = [body["seq"] for name, body in client.events if name == "started"]
    assert seqs == [1, 2, 3, 2, 3]


@pytest.mark.parametrize("since", [{"epoch": "another", "seq": 2}, {"epoch": None, "seq": 99}])
async def test_a_position_that_says_nothing_gets_a_snapshot(
    app: App, connect: Connect, since: dict[str, Any]
) -> None:
    client = await connect(app.url, rooms=[])
    await start(client, "a")
    since = {**since, "epoch": since["epoch"] or app.store.epoch}
    back = await connect(app.url, since={"main": since})
    assert (await back.event("snapshot"))["seq"] == 1


async def test_what_the_log_no_longer_holds_is_a_snapshot(serve: Serve, connect: Connect) -> None:
    app = await serve(history=10, replay=0, rate_limit=0)
    client = await connect(app.url, rooms=[])
    for number in range(150):
        await start(client, str(number))
    epoch = app.store.epoch
    kept = await connect(app.url, since={"main": {"epoch": epoch, "seq": 140}})
    assert (await kept.event("started"))["seq"] == 141
    gone = await connect(app.url, since={"main": {"epoch": epoch, "seq": 139}})
    assert len((await gone.event("snapshot"))["running"]) == 150
    answer = await client.command("status", {"since": {"epoch": epoch, "seq": 139}})
    assert len(answer["jobs"]) == 150


async def test_the_log_and_the_ended_jobs_are_bounded(serve: Serve, connect: Connect) -> None:
    app = await serve(history=20, rate_limit=0)
    client = await connect(app.url, rooms=[])
    await start(client, "old")
    for _ in range(200):
        await start(client, "a")
        await client.command("kill", {"connid": "a"})
    assert len((await client.command("history", {"limit": 500}))["jobs"]) <= 60
    assert [job["connid"] for job in (await client.command("status"))["jobs"]] == ["old"]


async def test_a_snapshot_shows_the_last_ended_jobs(app: App, connect: Connect) -> None:
    client = await connect(app.url, rooms=[])
    for number in range(60):
        await start(client, str(number))
        await client.command("kill", {"connid": str(number)})
    other = await connect(app.url)
    ended = (await other.event("snapshot"))["ended"]
    assert [job["connid"] for job in ended] == [str(number) for number in range(10, 60)]


async def test_a_job_can_be_watched_alone(app: App, connect: Connect, kind: str) -> None:
    client = await connect(app.url, kind, rooms=[])
    watcher = await connect(app.url, kind, rooms=[])
    job = await start(client, "a")
    answer = await watcher.command("join", {"room": "main", "connid": "a"})
    assert (answer["result"], answer["job"]) == ("joined", job)
    assert [event["event"] for event in answer["events"]] == ["started"]
    await start(client, "b")
    await client.command("kill", {"connid": "b"})
    await client.command("progress", {"connid": "a", "run": job["run"], "done": 0.5})
    assert (await watcher.event("progress"))["done"] == 0.5
    await client.command("kill", {"connid": "a"})
    assert (await watcher.event("killed"))["connid"] == "a"
    await barrier(watcher)
    assert names(watcher) == ["progress", "killed"]
    answer = await watcher.command("join", {"room": "main", "connid": "a"})
    assert answer["job"]["state"] == "killed"
    assert [event["event"] for event in answer["events"]] == ["started", "killed"]
    await watcher.command("leave", {"room": "main", "connid": "a"})
    await start(client, "a")
    await barrier(watcher)
    assert names(watcher) == ["progress", "killed"]


async def test_who_watches_a_job_and_its_room_hears_each_event_once(
    app: App, connect: Connect
) -> None:
    client = await connect(app.url)
    await client.command("join", {"room": "main", "connid": "a"})
    await start(client, "a")
    await barrier(client)
    assert names(client) == ["snapshot", "started"]


async def test_a_job_that_never_was_can_be_watched(app: App, connect: Connect) -> None:
    client = await connect(app.url, rooms=[])
    answer = await client.command("join", {"room": "main", "connid": "later"})
    assert answer["ok"]
    assert "job" not in answer
    await start(client, "later")
    assert (await client.event("started"))["job"]["connid"] == "later"


async def test_one_client_joins_so_many_rooms_and_no_more(serve: Serve, connect: Connect) -> None:
    app = await serve(max_joined=2)
    client = await connect(app.url, rooms=["a"])
    assert (await client.command("join", {"room": "b"}))["ok"]
    assert (await client.command("join", {"room": "b"}))["ok"]
    answer = await client.command("join", {"room": "c"})
    assert answer["error"]["code"] == "too_many"
    answer = await client.command("join", {"room": "c", "connid": "x"})
    assert answer["error"]["code"] == "too_many"
    await client.command("leave", {"room": "b"})
    assert (await client.command("join", {"room": "c", "connid": "x"}))["ok"]


async def test_presence_tells_who_is_there(app: App, connect: Connect, kind: str) -> None:
    ana = await connect(app.url, kind, name="ana")
    assert (await ana.event("presence", watching=1))["names"] == ["ana"]
    bo = await connect(app.url, kind, name="bo")
    assert (await bo.event("presence", watching=2))["names"] == ["ana", "bo"]
    await ana.event("presence", watching=2)
    await connect(app.url, kind, name="bo")
    assert (await ana.event("presence", watching=3))["names"] == ["ana", "bo"]
    await bo.command("leave", {"room": "main"})
    await ana.event("presence", watching=2)


async def test_presence_notices_a_client_that_is_gone(app: App, connect: Connect) -> None:
    ana = await connect(app.url, name="ana")
    bo = await connect(app.url, name="bo")
    await ana.event("presence", watching=2)
    await bo.close()
    assert (await ana.event("presence", watching=1))["names"] == ["ana"]


async def test_progress_is_heard_at_a_bounded_rate_and_the_latest_wins(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(rate_limit=0, progress_rate=5)
    client = await connect(app.url)
    job = await start(client, "a")
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in range(100):
        report = {"connid": "a", "run": job["run"], "done": number / 100}
        assert (await client.command("progress", report))["ok"]
    await client.event("progress", done=0.99)
    heard = sum(name == "progress" for name, _ in client.events)
    assert heard <= 2 + (loop.time() - begin) * 5


async def test_the_last_progress_comes_before_the_end(
    serve: Serve, connect: Connect, kind: str
) -> None:
    app = await serve(progress_rate=0.1)
    owner = await connect(app.url, rooms=[])
    member = await connect(app.url, kind)
    await member.event("snapshot")
    watcher = await connect(app.url, kind, rooms=[])
    await watcher.command("join", {"room": "main", "connid": "a"})
    job = await start(owner, "a")
    report = {"connid": "a", "run": job["run"]}
    for done in (0.1, 0.5, 0.9):
        await owner.command("progress", {**report, "done": done})
    await owner.command("finish", report)
    for client in (member, watcher):
        await client.event("finished")
        told = ("progress", "finished")
        heard = [(name, body.get("done")) for name, body in client.events if name in told]
        assert heard == [("progress", 0.1), ("progress", 0.9), ("finished", None)]
    again = await start(owner, "a")
    await owner.command("progress", {"connid": "a", "run": again["run"], "done": 0.2})
    await owner.command("kill", {"connid": "a"})
    assert (await member.event("progress"))["run"] == again["run"]


async def test_progress_that_was_missed_is_sent_to_who_comes_back(
    app: App, connect: Connect
) -> None:
    client = await connect(app.url, rooms=[])
    job = await start(client, "a")
    await client.command("progress", {"connid": "a", "run": job["run"], "done": 0.3, "note": "n"})
    back = await connect(app.url, since={"main": {"epoch": app.store.epoch, "seq": 1}})
    progress = await back.event("progress")
    assert (progress["done"], progress["note"], progress["run"]) == (0.3, "n", job["run"])
    assert names(back) == ["progress"]


async def test_a_snapshot_is_encoded_once_for_each_seq(app: App, connect: Connect) -> None:
    client = await connect(app.url, rooms=[])
    await start(client, "a")
    others = await asyncio.gather(*(connect(app.url) for _ in range(20)))
    await asyncio.gather(*(other.event("snapshot") for other in others))
    assert app.rooms.snapshots_encoded == 1


@pytest.mark.slow
async def test_a_crowd_that_reconnects_gets_what_it_missed_and_no_snapshots(
    serve: Serve, connect: Connect
) -> None:
    # So much at once may take a busy machine longer than Redis is given by default.
    app = await serve(rate_limit=0, redis_timeout=30)
    client = await connect(app.url, "websocket", rooms=[])
    await asyncio.gather(*(start(client, str(number)) for number in range(2000)))
    since = {"main": {"epoch": app.store.epoch, "seq": 1990}}
    crowd = await asyncio.gather(*(connect(app.url, "websocket", since=since) for _ in range(200)))
    for other in crowd:
        await other.event("started", seq=2000)
        assert names(other) == ["started"] * 10
    assert app.rooms.snapshots_encoded == 0


@pytest.mark.parametrize("kind", ["python", "websocket"])
async def test_to_watch_a_second_job_tells_nothing_of_the_first_again(
    app: App, connect: Connect, kind: str
) -> None:
    owner = await connect(app.url, rooms=[])
    watcher = await connect(app.url, kind, rooms=[])
    for connid in ("a", "b"):
        await start(owner, connid)
        await watcher.command("join", {"room": "main", "connid": connid})
        await owner.command("kill", {"connid": connid})
        await watcher.event("killed", connid=connid)
    assert names(watcher) == ["killed", "killed"]


async def test_a_slow_client_is_skipped_and_then_sent_a_snapshot(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(rate_limit=0, max_backlog=2000)
    slow = Slow()
    app.rooms.admit(slow, await app.rooms.prepare("main", None), None)
    client = await connect(app.url)
    for number in range(100):
        await start(client, str(number))
    assert slow.backlog() < 3000
    slow.queued.clear()
    await client.event("presence")
    await eventually(lambda: slow.queued)
    assert slow.queued[0][0] == "snapshot"
    assert slow.queued[0][1].count(b'"connid"') == 100
    slow.queued.clear()
    await start(client, "next")
    assert "started" in [name for name, _ in slow.queued]
    assert not slow.dropped


async def test_a_client_that_stays_stuck_is_let_go(serve: Serve, connect: Connect) -> None:
    app = await serve(rate_limit=0, max_backlog=2000, slow_timeout=0.2)
    slow = Slow()
    app.rooms.admit(slow, await app.rooms.prepare("main", None), None)
    client = await connect(app.url)
    for number in range(20):
        await start(client, str(number))
    await eventually(lambda: slow.dropped)


async def test_clients_that_leave_leave_nothing_behind(app: App, connect: Connect) -> None:
    for kind in HEARING:
        client = await connect(app.url, kind, rooms=["main", "other"])
        await client.command("join", {"room": "third", "connid": "x"})
        await client.close()
    await eventually(lambda: not app.rooms.open_rooms and not app.rooms.clients)


async def test_a_client_that_joins_again_and_again_is_not_sent_more_than_it_reads(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(rate_limit=0, max_backlog=5000)
    client = await connect(app.url, rooms=[])
    for number in range(50):
        await start(client, str(number))
    slow = Slow()
    for _ in range(100):
        app.rooms.admit(slow, await app.rooms.prepare("main", None), None)
    assert [name for name, _ in slow.queued] == ["snapshot"]
    slow.queued.clear()
    await eventually(lambda: slow.queued)


async def test_a_room_that_was_released_meanwhile_is_not_stale(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(rate_limit=0, presence_interval=0.05)
    client = await connect(app.url, rooms=[])
    job = await start(client, "old")
    await client.command("progress", {"connid": "old", "run": job["run"], "done": 0.5})
    first = Slow()
    held = await app.rooms.prepare("main", None)
    app.rooms.admit(first, held, None)
    app.rooms.forget(first)
    await eventually(lambda: not app.rooms.open_rooms)
    await client.command("kill", {"connid": "old"})
    await start(client, "new")
    slow = Slow()
    app.rooms.admit(slow, held, None)
    ((_, snapshot),) = slow.queued
    assert b'"seq":3' in snapshot
    assert b'"connid":"new"' in snapshot
    await connect(app.url, since={"main": {"epoch": app.store.epoch, "seq": 2}})


async def test_a_job_whose_start_has_left_the_log_can_be_watched(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(rate_limit=0, history=5)
    client = await connect(app.url, rooms=[])
    job = await start(client, "long")
    for number in range(120):
        await start(client, str(number))
    answer = await client.command("join", {"room": "main", "connid": "long"})
    assert (answer["job"], answer["events"]) == (job, [])
    await client.command("kill", {"connid": "long"})
    assert (await client.event("killed"))["connid"] == "long"


async def test_a_job_that_reports_all_the_time_can_be_looked_at(app: App) -> None:
    job = (await command(app, "request", connid="a", time=60))["job"]

    async def report() -> None:
        while True:
            await command(app, "progress", connid="a", run=job["run"], done=0.5)

    owners = [asyncio.create_task(report()) for _ in range(4)]
    async with asyncio.timeout(5):
        for _ in range(20):
            assert (await command(app, "status", connid="a"))["ok"]
    for owner in owners:
        owner.cancel()
    await asyncio.gather(*owners, return_exceptions=True)


async def test_a_kill_that_is_long_past_can_still_be_answered(serve: Serve) -> None:
    app = await serve(rate_limit=0, history=1)
    job = (await command(app, "request", connid="a", time=60))["job"]
    await command(app, "kill", connid="a")
    for number in range(98):
        await command(app, "request", connid=str(number), time=60)
    answer = await command(app, "stopped", connid="a", run=job["run"], exit=0)
    assert answer["result"] == "ok"


async def test_while_the_server_stops_reads_are_unavailable(serve: Serve) -> None:
    app = await serve()
    await command(app, "request", connid="a", time=60)
    await app.stop()
    assert (await command(app, "history"))["error"]["code"] == "unavailable"
    assert (await command(app, "request", connid="b", time=6))["error"]["code"] == "unavailable"
