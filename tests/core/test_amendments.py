"""What an owner says of a job that was ended for it: how it truly ended, that it stopped."""

import asyncio
from typing import Any

import pytest

from server.app import App
from server.audit import AuditRecord
from server.board import ENDED_SHOWN
from tests.conftest import Connect, Serve, Settings
from tests.support.clients import TestClient
from tests.support.replay import Dashboard, replay_log
from tests.support.servers import Clock, command, eventually, seen, serving
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.each_store

RESULT = {"exit": 3, "outcome": "lost"}


def code(answer: dict[str, Any]) -> str:
    return "ok" if answer["ok"] else answer["error"]["code"]


async def lose(app: App, clock: Clock, connid: str = "a") -> dict[str, Any]:
    """A job whose owner falls silent until its lease is over."""
    job = (await command(app, "request", connid=connid, time=600, lease=10))["job"]
    clock.now += 11
    board = await app.store.board("main")
    await eventually(lambda: connid not in board.running)
    assert board.ended[-1].outcome == "lost"
    return {"connid": connid, "run": job["run"]}


async def elapse(app: App, clock: Clock) -> dict[str, Any]:
    """A job whose time has run out."""
    job = (await command(app, "request", connid="a", time=5))["job"]
    clock.now += 6
    board = await app.store.board("main")
    await eventually(lambda: not board.running)
    assert board.ended[-1].outcome == "elapsed"
    return {"connid": "a", "run": job["run"]}


async def end_many(app: App) -> None:
    """So that no board shows any more what had ended before."""
    for _ in range(ENDED_SHOWN + 1):
        await command(app, "request", connid="other", time=60)
        await command(app, "kill", connid="other")


async def test_a_late_finish_amends_a_lost_job(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    records: list[AuditRecord] = []
    app = await serve(rate_limit=0, now=clock, on_change=records.append)
    watcher = await connect(app.url)
    lost = await lose(app, clock)
    answer = await command(app, "finish", **lost, outcome="failed", result=RESULT)
    assert (answer["result"], answer["seq"]) == ("amended", 3)
    assert (answer["job"]["outcome"], answer["job"]["result"]) == ("failed", RESULT)
    event = await watcher.event("amended")
    at = answer["job"]["amended_at"]
    assert event == {
        **{"room": "main", "seq": 3, "at": at, **lost},
        **{"outcome": "failed", "result": RESULT},
    }
    record = records[-1]
    assert (record.event, record.by, record.outcome) == ("amended", "ana", "failed")
    history = await command(app, "history")
    assert history["jobs"] == [answer["job"]]
    assert seen(list((await app.store.board("main")).ended)) == [answer["job"]]


async def test_a_lost_job_is_amended_once(serve: Serve) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock)
    lost = await lose(app, clock)
    answers = await asyncio.gather(
        *(command(app, "finish", **lost, outcome="done", result=number) for number in range(5))
    )
    assert sorted(map(code, answers)) == ["not_running"] * 4 + ["ok"]
    again = await command(app, "finish", **lost, outcome="failed")
    (amended,) = [answer["job"] for answer in answers if answer["ok"]]
    assert (code(again), again["job"]) == ("not_running", amended)
    assert await app.store.seq("main") == 3


async def test_only_a_job_that_was_lost_is_amended(serve: Serve) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock)
    elapsed = await elapse(app, clock)
    job = (await command(app, "request", connid="b", time=60))["job"]
    killed = {"connid": "b", "run": job["run"]}
    await command(app, "kill", connid="b")
    job = (await command(app, "request", connid="c", time=60))["job"]
    failed = {"connid": "c", "run": job["run"]}
    # What its owner wrote does not make it a lost one.
    await command(app, "finish", **failed, outcome="failed", result='"outcome":"lost"')
    lost = await lose(app, clock, "d")
    wrong = [{**lost, "connid": "a"}, {**lost, "run": "another"}, {**lost, "room": "ops"}]
    before = await app.store.seq("main")
    for ended in (elapsed, killed, failed, *wrong):
        answer = await command(app, "finish", **ended, outcome="done")
        assert code(answer) == "not_running"
    assert await app.store.seq("main") == before


async def test_a_lost_job_is_amended_beside_its_next_run(serve: Serve) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock)
    lost = await lose(app, clock)
    running = (await command(app, "request", connid="a", time=600))["job"]
    assert (await command(app, "finish", **lost, outcome="done"))["result"] == "amended"
    assert (await command(app, "status", connid="a"))["jobs"][0]["run"] == running["run"]
    done = await command(app, "finish", connid="a", run=running["run"])
    assert done["result"] == "finished"


async def test_only_its_owner_amends_a_lost_job(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    app = await serve(auth_secret=SECRET, rate_limit=0, now=clock)
    ana = await connect(app.url, token=token())
    eve = await connect(app.url, token=token(sub="eve"))
    begun = await ana.command("request", {"connid": "a", "time": 600, "lease": 10})
    lost = {"connid": "a", "run": begun["job"]["run"]}
    clock.now += 11
    await ana.event("finished")
    forged = await eve.command("finish", {**lost, "result": "forged"})
    assert code(forged) == "forbidden"
    assert (await ana.command("finish", lost))["result"] == "amended"


async def test_a_job_is_amended_after_restarts_however_long_ago_it_was_lost(
    kept: Settings,
) -> None:
    clock = Clock()
    settings = {**kept, "rate_limit": 0, "now": clock}
    async with serving(**settings) as app:
        lost = await lose(app, clock)
    async with serving(**settings) as app:
        await end_many(app)
        answer = await command(app, "finish", **lost, outcome="done", result=RESULT)
        assert answer["result"] == "amended"
    async with serving(**settings) as app:
        history = await command(app, "history", connid="a")
        assert history["jobs"] == [answer["job"]]
        names = [entry.event.name for entry in await app.store.read_run("main", **lost)]
        assert names == ["started", "finished", "amended"]
        again = await command(app, "finish", **lost)
        assert (code(again), again["job"]) == ("not_running", answer["job"])


async def test_who_was_away_is_told_of_what_was_amended(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock)
    lost = await lose(app, clock)
    since = {"epoch": app.store.epoch, "seq": await app.store.seq("main")}
    await command(app, "finish", **lost, outcome="done", result=RESULT)
    watching = await connect(app.url, rooms=[])
    joined = await watching.command("join", {"room": "main", "connid": "a"})
    assert [event["event"] for event in joined["events"]] == ["started", "finished", "amended"]
    assert joined["job"]["outcome"] == "done"
    missed = await command(app, "status", since=since)
    assert [event["event"] for event in missed["events"]] == ["amended"]
    fresh: TestClient = await connect(app.url)
    snapshot = Dashboard()
    snapshot.hear("snapshot", await fresh.event("snapshot"))
    log = await command(app, "status", since={**since, "seq": 0})
    assert replay_log(log["events"], app.store.epoch).state() == snapshot.state()


@pytest.mark.parametrize("how", [elapse, lose], ids=["elapsed", "lost"])
@pytest.mark.parametrize("ago", [False, True], ids=["just now", "long ago"])
async def test_the_work_of_a_job_that_was_ended_for_its_owner_stops(
    kept: Settings, how: Any, ago: bool
) -> None:
    clock = Clock()
    settings = {**kept, "rate_limit": 0, "now": clock}
    async with serving(**settings) as app:
        ended = await how(app, clock)
        assert (await command(app, "output", **ended, text="last line"))["ok"]
    async with serving(**settings) as app:
        if ago:
            await end_many(app)
        before = await app.store.seq("main")
        answers = await asyncio.gather(
            *(command(app, "stopped", **ended, exit=143) for _ in range(3))
        )
        assert [answer["job"]["exit"] for answer in answers] == [143] * 3
        assert answers[0]["job"]["stopped_at"] is not None
        assert await app.store.seq("main") == before + 1
        (job,) = (await command(app, "history", connid="a"))["jobs"]
        assert job == answers[0]["job"]


async def test_a_lost_job_that_has_stopped_is_amended_too(serve: Serve) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock)
    lost = await lose(app, clock)
    await command(app, "stopped", **lost, exit=143)
    amended = (await command(app, "finish", **lost, outcome="failed"))["job"]
    assert (amended["exit"], amended["outcome"]) == (143, "failed")
    again = await command(app, "stopped", **lost, exit=1)
    assert again["job"] == amended
    names = [entry.event.name for entry in await app.store.read_run("main", **lost)]
    assert names == ["started", "finished", "stopped", "amended"]


async def test_a_job_that_its_owner_ended_does_not_stop_once_more(serve: Serve) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock)
    lost = await lose(app, clock)
    await command(app, "finish", **lost)
    assert code(await command(app, "stopped", **lost, exit=0)) == "not_running"


async def test_a_job_that_is_kept_no_longer_is_not_amended(serve: Serve) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock, history=1)
    lost = await lose(app, clock)
    for _ in range(2 * ENDED_SHOWN + 60):
        await command(app, "request", connid="other", time=60)
        await command(app, "kill", connid="other")
    assert code(await command(app, "finish", **lost)) == "not_running"
    assert code(await command(app, "stopped", **lost)) == "not_running"
