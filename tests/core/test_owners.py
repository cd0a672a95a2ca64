"""Whose a job is: where tokens prove it, only its owner reports of it and ends it as its own."""

import asyncio
from typing import Any

import pytest

from server.access.auth import Identity
from server.access.rate_limits import TokenBucket
from server.app import App
from server.board import ENDED_SHOWN
from server.contract.messages import NULL, Job, Progress
from server.core.replies import Caller
from server.store.completion import Completion
from server.store.interface import (
    EndJob,
    Entry,
    FinishDetails,
    Foreign,
    KillDetails,
    ReportProgress,
    Stale,
    StartJob,
)
from tests.conftest import Connect, Serve, Settings
from tests.support.servers import Clock, eventually, seen, serving
from tests.support.tokens import LATER, SECRET, token

pytestmark = pytest.mark.each_store


@pytest.fixture
async def app(serve: Serve) -> App:
    return await serve(auth_secret=SECRET, rate_limit=0)


async def ask(app: App, who: str, name: str, **payload: Any) -> dict[str, Any]:
    """Give a command without a connection, as one whose name is proven."""
    caller = Caller(Identity(who, expires_at=LATER), "socket", TokenBucket(0))
    return seen(await app.commands.answer(caller, name, payload))


def code(answer: dict[str, Any]) -> str:
    return "ok" if answer["ok"] else answer["error"]["code"]


async def start(app: App, who: str, connid: str) -> dict[str, Any]:
    answer = await ask(app, who, "request", connid=connid, time=600)
    return {"connid": connid, "run": answer["job"]["run"]}


async def kill_many(app: App) -> None:
    """So that no board shows any more what had ended before."""
    for _ in range(ENDED_SHOWN + 1):
        await start(app, "bo", "other")
        await ask(app, "bo", "kill", connid="other")


def starting(app: App, run: str, who: str, replaces: KillDetails | None = None) -> StartJob:
    now = app.store.now()
    times: Any = {"time": 600, "started_at": now, "deadline": now + 600}
    return StartJob(Job(connid="a", run=run, room="main", by=who, **times), replaces)


def finishing(app: App, run: str, who: str) -> EndJob:
    return EndJob("main", "a", app.store.now(), FinishDetails(run, "done", NULL), who)


async def owner_told(completion: Completion[list[Entry]]) -> str:
    """Whose job a change has failed at."""
    with pytest.raises(Foreign) as refused:
        await completion
    return refused.value.owner


async def test_another_s_change_is_refused_before_the_start_is_durable(app: App) -> None:
    submit = app.store.submit
    begun = submit(starting(app, "1", "ana"))
    report = Progress("main", app.store.now(), "a", "1", 0.9, None)
    theirs = [submit(ReportProgress(report, "eve")), submit(finishing(app, "1", "eve"))]
    mine = submit(finishing(app, "1", "ana"))
    again = submit(finishing(app, "1", "eve"))
    (entry,) = await begun
    assert entry.event.seq == 1
    assert [await owner_told(completion) for completion in theirs] == ["ana", "ana"]
    (entry,) = await mine
    assert (entry.event.name, entry.event.seq) == ("finished", 2)
    with pytest.raises(Stale):  # By then it runs for nobody.
        await again
    ended = await app.store.ended("main", "a", "1")
    assert ended is not None and ended.progress is None


async def test_a_job_that_was_replaced_is_no_longer_that_of_its_first_owner(app: App) -> None:
    submit = app.store.submit
    kill = KillDetails(None, "bo", "http", "replaced")
    changes = [starting(app, "1", "ana"), starting(app, "2", "bo", kill)]
    both = [submit(change) for change in changes]
    first, second = submit(finishing(app, "1", "ana")), submit(finishing(app, "2", "ana"))
    for completion in both:
        await completion
    with pytest.raises(Stale) as stale:
        await first
    assert stale.value.job is not None and stale.value.job.run == "2"
    assert await owner_told(second) == "bo"
    answer = await ask(app, "ana", "finish", connid="a", run="1")
    assert answer["error"]["message"].startswith("a is running as another run")
    answer = await ask(app, "ana", "progress", connid="a", run="2")
    assert code(answer) == "forbidden"
    assert answer["error"]["message"] == "a belongs to bo: only its owner may report on it"
    assert code(await ask(app, "ana", "stopped", connid="a", run="1")) == "ok"
    assert code(await ask(app, "bo", "finish", connid="a", run="2")) == "ok"


async def test_another_s_finish_beside_the_owner_s_never_counts(app: App, connect: Connect) -> None:
    ana = await connect(app.url, "websocket", token=token())
    eve = await connect(app.url, "websocket", token=token(sub="eve"))
    for _ in range(30):
        begun = await ana.command("request", {"connid": "a", "time": 60})
        job = {"connid": "a", "run": begun["job"]["run"]}
        forged = {**job, "result": "forged"}
        answers = await asyncio.gather(
            eve.command("finish", forged),
            ana.command("progress", {**job, "done": 0.5}),
            eve.command("progress", {**job, "done": 0.1}),
            ana.command("finish", {**job, "result": "mine"}),
            eve.command("finish", forged),
        )
        assert {code(answers[place]) for place in (0, 2, 4)} <= {"forbidden", "not_running"}
        assert code(answers[1]) == "ok"
        ended = answers[3]["job"]
        assert (ended["result"], ended["progress"]["done"]) == ("mine", 0.5)


async def test_another_s_report_renews_no_lease(serve: Serve) -> None:
    clock = Clock()
    app = await serve(auth_secret=SECRET, rate_limit=0, now=clock)
    begun = await ask(app, "ana", "request", connid="a", time=600, lease=10)
    clock.now += 8
    answer = await ask(app, "eve", "progress", connid="a", run=begun["job"]["run"])
    assert code(answer) == "forbidden"
    clock.now += 3
    board = await app.store.board("main")
    await eventually(lambda: not board.running)
    assert board.ended[0].outcome == "lost"


async def test_only_the_owner_of_a_killed_job_says_that_it_stopped(kept: Settings) -> None:
    settings = {**kept, "auth_secret": SECRET, "rate_limit": 0}
    async with serving(**settings) as app:
        jobs = {connid: await start(app, "ana", connid) for connid in ("a", "b", "c")}
        assert code(await ask(app, "bo", "stopped", **jobs["a"])) == "not_running"
        for connid in ("a", "b"):
            await ask(app, "bo", "kill", connid=connid)
        await ask(app, "ana", "finish", **jobs["c"])
        await kill_many(app)
        assert code(await ask(app, "bo", "stopped", **jobs["b"])) == "forbidden"
        assert code(await ask(app, "ana", "stopped", **jobs["b"], exit=3)) == "ok"
    async with serving(**settings) as app:
        answer = await ask(app, "bo", "stopped", **jobs["a"])
        assert code(answer) == "forbidden"
        assert answer["error"]["message"] == "a belongs to ana: only its owner may report on it"
        for who in ("ana", "bo"):
            other = {**jobs["a"], "connid": "b"}
            assert code(await ask(app, who, "stopped", **other)) == "not_running"
        assert (await ask(app, "ana", "stopped", **jobs["a"]))["job"]["stopped_at"] is not None
        # Once they have, nothing comes of it; that it is as good as done is for them only.
        for connid, expected in [("a", "ok"), ("b", "ok"), ("c", "not_running")]:
            assert code(await ask(app, "bo", "stopped", **jobs[connid])) == "forbidden"
            assert code(await ask(app, "ana", "stopped", **jobs[connid])) == expected
        assert [e.event.name for e in await app.store.read_run("main", **jobs["a"])] == [
            "started", "killed", "stopped"
        ]  # fmt: skip


async def test_only_the_owner_of_an_ended_job_shows_what_it_prints(kept: Settings) -> None:
    settings = {**kept, "auth_secret": SECRET, "rate_limit": 0}
    async with serving(**settings) as app:
        connids = ("heard", "silent", "done")
        heard, silent, done = [await start(app, "ana", connid) for connid in connids]
        for job in (heard, done):
            assert code(await ask(app, "eve", "output", **job, text="forged")) == "forbidden"
            await ask(app, "ana", "output", **job, text="mine ")
        for job in (heard, silent):
            await ask(app, "bo", "kill", **job)
        await ask(app, "ana", "finish", **done)
        for _ in range(2):
            for job in (heard, silent, done):
                answer = await ask(app, "eve", "output", **job, text="forged")
                assert code(answer) == "forbidden"
                assert code(await ask(app, "ana", "output", **job, text="more ")) == "ok"
            await kill_many(app)
        for job in (heard, done):
            assert (await app.store.printed("main", job["run"])).text == "mine more more "
        assert (await app.store.printed("main", silent["run"])).text == "more more "
    async with serving(**settings) as app:
        assert code(await ask(app, "eve", "output", **silent, text="forged")) == "forbidden"
        assert code(await ask(app, "ana", "output", **silent, text="more")) == "ok"


async def test_names_of_any_characters_are_told_apart(app: App) -> None:
    names = ['a"b', "a\\", "é☃", "a/b", 'x","by":"ana', "ana"]
    for name in names:
        job = await start(app, name, f"of {name}")
        for other in names:
            expected = "ok" if other == name else "forbidden"
            assert code(await ask(app, other, "progress", **job)) == expected
            assert code(await ask(app, other, "output", **job, text=".")) == expected


@pytest.mark.embedded
async def test_who_may_print_is_decided_without_a_look_at_the_disk(kept: Settings) -> None:
    """Nor does it wait for anything else: what one client prints keeps its order."""
    async with serving(**kept, auth_secret=SECRET, rate_limit=0) as app:
        job = await start(app, "ana", "a")
        await ask(app, "ana", "kill", connid="a")
        await kill_many(app)
        with pytest.raises(Foreign):
            app.store.print("main", **job, text="forged", owner="eve").send(None)
        with pytest.raises(StopIteration):
            app.store.print("main", **job, text="mine", owner="ana").send(None)


@pytest.mark.embedded
async def test_what_an_owner_reports_shares_commits(kept: Settings, connect: Connect) -> None:
    async with serving(**kept, auth_secret=SECRET, rate_limit=0) as app:
        ana = await connect(app.url, token=token())
        begun = await ana.command("request", {"connid": "a", "time": 60})
        job = {"connid": "a", "run": begun["job"]["run"]}
        before = sum(app.store.commits.counts)
        reports = [ana.command("progress", {**job, "done": at / 100}) for at in range(100)]
        ends = [ana.command("finish", job), ana.command("finish", job)]
        *answers, done, again = await asyncio.gather(*reports, *ends)
        assert [code(answer) for answer in answers] == ["ok"] * 100
        assert (code(done), done["job"]["progress"]["done"]) == ("ok", 0.99)
        assert code(again) == "not_running"
        assert sum(app.store.commits.counts) - before < 50


async def test_an_owner_s_commands_keep_their_order(app: App, connect: Connect) -> None:
    ana = await connect(app.url, token=token())
    begun = await ana.command("request", {"connid": "a", "time": 60})
    job = {"connid": "a", "run": begun["job"]["run"]}
    for at in range(20):
        answers = await asyncio.gather(
            ana.command("progress", {**job, "done": at / 20}),
            ana.command("output", {**job, "text": f"{at} "}),
            ana.command("output", {**job, "text": "last"}),
            ana.command("finish", job),
            ana.command("progress", {**job, "done": 1}),
            ana.command("request", {"connid": "a", "time": 60}),
        )
        assert [code(answer) for answer in answers] == ["ok"] * 4 + ["not_running", "ok"]
        assert answers[3]["job"]["progress"]["done"] == at / 20
        assert (await app.store.printed("main", job["run"])).text == f"{at} last"
        job["run"] = answers[5]["job"]["run"]


async def test_a_run_is_told_of_under_the_connid_that_it_has(app: App) -> None:
    killed, running = await start(app, "ana", "a"), await start(app, "ana", "b")
    await ask(app, "ana", "kill", connid="a")
    wrong = {"connid": "b", "run": killed["run"]}
    assert code(await ask(app, "ana", "stopped", **wrong, exit=0)) == "not_running"
    assert code(await ask(app, "ana", "output", **wrong, text="x")) == "not_running"
    assert code(await ask(app, "ana", "finish", **wrong, outcome="done")) == "not_running"
    assert code(await ask(app, "ana", "stopped", **killed, exit=0)) == "ok"
    assert code(await ask(app, "ana", "finish", **running, outcome="done")) == "ok"
