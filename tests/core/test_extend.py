"""More time for a running job: who may have it, how much, and how it ends after that."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from server.access.actor import SERVER
from server.app import App
from server.audit import AuditRecord
from server.contract.messages import NULL
from server.store.interface import EndJob, FinishDetails, Stale
from tests.conftest import Connect, Serve, Settings
from tests.support.clients import TestClient
from tests.support.replay import Dashboard, replay_log
from tests.support.servers import Clock, command, eventually, serving

pytestmark = pytest.mark.each_store


async def start(app: App, connid: str = "a", time: float = 10, **more: Any) -> dict[str, Any]:
    job: dict[str, Any] = (await command(app, "request", connid=connid, time=time, **more))["job"]
    return job


def code(answer: dict[str, Any]) -> str:
    return "ok" if answer["ok"] else answer["error"]["code"]


async def test_everyone_hears_that_a_deadline_was_moved(serve: Serve, connect: Connect) -> None:
    records: list[AuditRecord] = []
    app = await serve(rate_limit=0, on_change=records.append)
    watcher = await connect(app.url)
    alone = await connect(app.url, rooms=[])
    job = await start(app, note="weekly")
    await alone.command("join", {"room": "main", "connid": "a"})
    await command(app, "progress", connid="a", run=job["run"], done=0.5)
    answer = await command(app, "extend", connid="a", run=job["run"], time=30)
    deadline = pytest.approx(job["deadline"] + 30)
    assert (answer["result"], answer["seq"]) == ("extended", 2)
    moved = answer["job"]
    assert (moved["time"], moved["deadline"]) == (40, deadline)
    assert {**moved, "time": 10, "deadline": job["deadline"], "progress": None} == job
    event = await watcher.event("extended")
    assert event == {
        **{"room": "main", "seq": 2, "at": event["at"], "connid": "a", "run": job["run"]},
        **{"time": 40, "deadline": moved["deadline"], "by": "ana", "via": "socket"},
    }
    assert await alone.event("extended") == event
    assert (await command(app, "status"))["jobs"][0]["deadline"] == moved["deadline"]
    record = records[-1]
    assert (record.event, record.by, record.deadline) == ("extended", "ana", moved["deadline"])
    ended = (await command(app, "kill", connid="a"))["job"]
    assert (ended["time"], ended["deadline"]) == (40, moved["deadline"])


async def test_a_job_ends_when_its_moved_deadline_comes(
    kept: Settings, store: str, connect: Connect
) -> None:
    clock = Clock()
    async with serving(**kept, now=clock, rate_limit=0) as app:
        client = await connect(app.url)
        job = await start(app)
        assert (await command(app, "extend", connid="a", time=20))["ok"]
        clock.now += 11  # Its first deadline is over.
        await start(app, "other", time=1)
        clock.now += 2
        await client.event("finished", connid="other")
        await command(app, "extend", connid="a", time=5)
        clock.now += 18
        (running,) = (await command(app, "status"))["jobs"]
        assert (running["run"], running["time"]) == (job["run"], 35)
    async with serving(**kept, now=clock, rate_limit=0) as app:
        client = await connect(app.url)
        (running,) = (await command(app, "status"))["jobs"]
        assert running["remaining"] == pytest.approx(4, abs=0.01)
        clock.now += 4.5
        finished = await client.event("finished", connid="a")
        assert finished["outcome"] == "elapsed"
        assert "late" not in finished


async def test_a_longer_time_renews_no_lease(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock)
    client = await connect(app.url)
    await start(app, lease=5)
    clock.now += 4
    await command(app, "extend", connid="a", time=60)
    clock.now += 1.5
    assert (await client.event("finished"))["outcome"] == "lost"


async def test_time_is_added_once_where_the_deadline_is_named(app: App) -> None:
    job = await start(app)
    ask = {"connid": "a", "time": 30, "deadline": job["deadline"]}
    answers = await asyncio.gather(*(command(app, "extend", **ask) for _ in range(4)))
    assert sorted(map(code, answers)) == ["conflict"] * 3 + ["ok"]
    refused = next(answer for answer in answers if not answer["ok"])
    assert refused["job"]["time"] == 40
    assert "moved meanwhile" in refused["error"]["message"]
    assert await app.store.seq("main") == 2


async def test_no_job_is_given_more_than_the_longest_time(serve: Serve) -> None:
    app = await serve(rate_limit=0, max_time=100)
    await start(app, time=60)
    refused = await command(app, "extend", connid="a", time=41)
    assert (code(refused), refused["error"]["field"]) == ("invalid", "time")
    assert "MAX_TIME" in refused["error"]["message"]
    for wrong in (0, -5, 101):
        assert code(await command(app, "extend", connid="a", time=wrong)) == "invalid"
    assert (await command(app, "extend", connid="a", time=40))["job"]["time"] == 100
    assert await app.store.seq("main") == 2


async def test_what_is_not_running_is_given_no_time(app: App) -> None:
    assert code(await command(app, "extend", connid="a", time=5)) == "not_running"
    job = await start(app)
    wrong = await command(app, "extend", connid="a", run="another", time=5)
    assert code(wrong) == "not_running"
    await command(app, "finish", connid="a", run=job["run"])
    answer = await command(app, "extend", connid="a", time=5)
    assert (code(answer), answer["job"]["run"]) == ("not_running", job["run"])
    assert await app.store.seq("main") == 2


async def test_a_time_out_that_was_overtaken_ends_nothing(serve: Serve) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock)
    job = await start(app)
    asked = app.jobs.extend("main", "a", 60, SERVER, run=None, deadline=None)
    how = FinishDetails(job["run"], "elapsed", NULL)
    late = app.store.submit(EndJob("main", "a", job["deadline"] + 0.01, how))
    await app.jobs.outcome(asked)
    with pytest.raises(Stale):
        await late
    assert (await command(app, "status"))["jobs"][0]["time"] == 70


def lacks(jobs: Mapping[str, Any], connid: str) -> bool:
    return connid not in jobs


async def test_races_with_the_time_out_have_one_end(app: App) -> None:
    board = await app.store.board("main")
    for number in range(10):
        connid = f"a{number}"
        job = await start(app, connid, time=0.05)
        added = 0.0
        while connid in board.running:
            answer = await command(app, "extend", connid=connid, time=0.01)
            added += 0.01 if answer["ok"] else 0
            if added > 0.05:
                await eventually(partial(lacks, board.running, connid))
        (ended,) = (await command(app, "history", connid=connid))["jobs"]
        assert ended["outcome"] == "elapsed"
        assert ended["deadline"] == pytest.approx(job["deadline"] + added, abs=0.001)
        assert ended["ended_at"] >= ended["deadline"]


async def whole_log(app: App) -> list[dict[str, Any]]:
    since = {"epoch": app.store.epoch, "seq": 0}
    events: list[dict[str, Any]] = (await command(app, "status", since=since))["events"]
    return events


async def test_the_log_and_the_life_of_a_run_tell_each_move(
    kept: Settings, connect: Connect
) -> None:
    names = ["started", "extended", "extended", "killed", "stopped"]
    async with serving(**kept, rate_limit=0) as app:
        job = await start(app)
        other = await start(app, "b")
        await command(app, "extend", connid="b", time=1)
        for _ in range(2):
            await command(app, "extend", connid="a", time=5)
        await command(app, "kill", connid="a")
        await command(app, "stopped", connid="a", run=job["run"])
        client = await connect(app.url)
        await check_tells_all(app, client)
    async with serving(**kept, rate_limit=0) as app:
        for connid, run, told in (("a", job["run"], names), ("b", other["run"], names[:2])):
            entries = await app.store.read_run("main", connid, run)
            assert [entry.event.name for entry in entries] == told
        events = [event["event"] for event in await whole_log(app)]
        assert events == [*names[:1], *names[:2], *names[1:]]


async def check_tells_all(app: App, client: TestClient) -> None:
    """A snapshot shows what the log adds up to."""
    shown = Dashboard()
    shown.hear("snapshot", await client.event("snapshot"))
    assert replay_log(await whole_log(app), app.store.epoch).state() == shown.state()
