"""Timeouts and leases: a job never runs past its time, and never ends before it."""

import asyncio
from typing import Any

import pytest

from server.access.actor import Actor
from server.app import App
from server.store.embedded.schedule import SLACK
from server.store.embedded.store import EmbeddedStore
from tests.conftest import Connect, Serve, Settings
from tests.support.clients import TestClient
from tests.support.servers import Clock, serving

pytestmark = pytest.mark.each_store

ANA = Actor("ana", "socket")


async def start(client: TestClient, connid: str, **fields: Any) -> dict[str, Any]:
    answer = await client.command("request", {"connid": connid, "time": 60, **fields})
    assert answer["ok"], answer
    return answer["job"]


async def last_ended(client: TestClient) -> dict[str, Any]:
    return (await client.command("history", {"limit": 1}))["jobs"][0]


async def test_a_job_ends_at_its_deadline(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    job = await start(client, "a", time=0.2)
    finished = await client.event("finished")
    assert finished["at"] >= job["deadline"]
    assert (finished["run"], finished["outcome"]) == (job["run"], "elapsed")
    assert (await last_ended(client))["ended_at"] == finished["at"]


async def test_jobs_end_in_the_order_of_their_deadlines(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    times = {"c": 0.6, "a": 0.2, "b": 0.4}
    # At once: the machine may be busy for longer than their times differ.
    starts = (start(client, connid, time=time) for connid, time in times.items())
    jobs = sorted(await asyncio.gather(*starts), key=lambda job: job["deadline"])
    ended = [(await client.event("finished"))["connid"] for _ in range(3)]
    assert ended == [job["connid"] for job in jobs]


async def test_a_job_that_is_killed_does_not_finish(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    await start(client, "a", time=0.2)
    await client.command("kill", {"connid": "a"})
    await start(client, "b", time=0.3)
    await client.event("finished", connid="b")
    assert [body["connid"] for name, body in client.events if name == "finished"] == ["b"]


async def test_a_lease_that_is_not_renewed_loses_the_job(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    await start(client, "a", lease=0.2)
    assert (await client.event("finished"))["outcome"] == "lost"


async def test_progress_renews_a_lease(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    job = await start(client, "a", lease=0.4)
    for _ in range(8):
        await asyncio.sleep(0.1)
        assert (await client.command("progress", {"connid": "a", "run": job["run"]}))["ok"]
    finished = await client.event("finished")
    assert finished["at"] - job["started_at"] > 1.1
    assert finished["outcome"] == "lost"


async def test_a_lease_longer_than_the_time_does_not_matter(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    await start(client, "a", time=0.1, lease=0.2)
    assert (await client.event("finished"))["outcome"] == "elapsed"


async def test_a_clock_that_is_set_forward_is_noticed(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    app = await serve(now=clock)
    client = await connect(app.url)
    await start(client, "a", time=3600)
    clock.now += 3601
    assert (await client.event("finished"))["outcome"] == "elapsed"


@pytest.mark.embedded
async def test_pending_jobs_take_no_tasks(serve: Serve) -> None:
    app = await serve(max_running_room=0)
    before = len(asyncio.all_tasks())
    for start in [app.jobs.start("main", str(number), 3600, ANA) for number in range(2_000)]:
        await start
    # A few of the server's own may have begun only now.
    assert len(asyncio.all_tasks()) < before + 10
    assert isinstance(app.store, EmbeddedStore)
    assert app.store.scheduled == 2_000


@pytest.mark.embedded
async def test_ended_jobs_do_not_stay_in_the_heap(app: App) -> None:
    for _ in range(3 * SLACK):
        await app.jobs.start("main", "a", 3600, ANA)
        await app.jobs.kill("main", "a", ANA, run=None, reason=None)
    assert isinstance(app.store, EmbeddedStore)
    assert app.store.scheduled <= SLACK + 2


async def test_what_came_due_while_the_server_was_away_ends_late(
    kept: Settings, connect: Connect
) -> None:
    clock = Clock()
    settings = {**kept, "now": clock, "rate_limit": 0}
    async with serving(**settings) as app:
        client = await connect(app.url)
        short = await start(client, "short", time=10)
        long = await start(client, "long", time=1000)
        epoch = app.store.epoch
    clock.now += 20
    async with serving(**settings) as app:
        assert app.store.epoch == epoch
        client = await connect(app.url, since={"main": {"epoch": epoch, "seq": 2}})
        finished = await client.event("finished")
        assert (finished["run"], finished["seq"], finished["late"]) == (short["run"], 3, True)
        status = await client.command("status")
        assert [job["run"] for job in status["jobs"]] == [long["run"]]
        assert status["jobs"][0]["remaining"] == pytest.approx(980)
        ended = await last_ended(client)
        assert (ended["late"], ended["ended_at"]) == (True, clock.now)


async def test_a_restart_gives_owners_time_to_renew_their_leases(
    kept: Settings, connect: Connect
) -> None:
    clock = Clock()
    settings = {**kept, "now": clock, "rate_limit": 0}
    async with serving(**settings) as app:
        client = await connect(app.url)
        job = await start(client, "a", time=1000, lease=5)
        await client.command("progress", {"connid": "a", "run": job["run"], "done": 0.5})
    clock.now += 20
    async with serving(**settings) as app:
        client = await connect(app.url)
        assert await app.timeouts.end_due() == 0
        assert (await client.command("status"))["jobs"][0]["progress"]["done"] == 0.5
        clock.now += 6
        assert await app.timeouts.end_due() == 1
        assert (await client.event("finished"))["outcome"] == "lost"
