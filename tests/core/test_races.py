"""Everything at once: one run has one end, and each caller is told the truth."""

import asyncio
import os
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from server.app import App
from server.store.embedded.batch import Batch
from tests.conftest import ON_REDIS, Connect, Serve
from tests.support import redis
from tests.support.clients import PATIENCE
from tests.support.replay import replay_log
from tests.support.servers import Clock, command, eventually, serving

pytestmark = [pytest.mark.each_store, pytest.mark.slow]

ROUNDS = 20_000 if os.environ.get("HOURGLASS_SOAK") else 2_000
Answer = dict[str, Any]


async def race(app: App, clock: Clock, order: random.Random) -> tuple[str, list[Answer]]:
    """Start a job, and end it in every way that there is in the same tick; the answers."""
    started = await command(app, "request", connid="a", time=60, if_running="replace")
    run = started["job"]["run"]
    clock.now = started["job"]["deadline"]
    contenders: list[Callable[[], Awaitable[Any]]] = [
        lambda: command(app, "kill", connid="a"),
        lambda: command(app, "kill", connid="a", run=run),
        lambda: command(app, "finish", connid="a", run=run),
        lambda: command(app, "finish", connid="a", run=run, outcome="failed"),
        lambda: command(app, "request", connid="a", time=60, if_running="replace"),
        lambda: command(app, "request", connid="a", time=60),
        lambda: app.timeouts.end_due(),
    ]
    order.shuffle(contenders)
    answers = await asyncio.gather(*(contender() for contender in contenders))
    return run, [answer for answer in answers if isinstance(answer, dict)]


async def log_of(app: App, epoch: str) -> list[dict[str, Any]]:
    answer = await command(app, "status", since={"epoch": epoch, "seq": 0})
    return answer["events"]


def ends_of(events: list[dict[str, Any]]) -> Counter[str]:
    return Counter(event["run"] for event in events if event["event"] in ("killed", "finished"))


@pytest.mark.parametrize("place", ["memory", "file", ON_REDIS])
async def test_one_end_for_each_run_whoever_races(tmp_path: Path, place: str) -> None:
    rounds = ROUNDS if place == "memory" else ROUNDS // 10
    settings: dict[str, Any] = {"database": str(tmp_path / "jobs.db")} if place == "file" else {}
    if place == "redis":
        settings = redis.settings()
    clock, order = Clock(), random.Random(7)
    async with serving(**settings, now=clock, history=100 * rounds, memory_budget=2**32) as app:
        claims: list[Answer] = []
        for _ in range(rounds):
            _, answers = await race(app, clock, order)
            claims += [answer["job"] for answer in answers if answer["ok"]]
        events = await log_of(app, app.store.epoch)
        board = await app.store.board("main")
        assert [event["seq"] for event in events] == list(range(1, board.seq + 1))
        dashboard = replay_log(events, app.store.epoch)
        assert set(dashboard.running) == set(board.running)
        ends = ends_of(events)
        assert set(ends.values()) == {1}
        started = [event["job"]["run"] for event in events if event["event"] == "started"]
        assert len(started) == len(set(started))
        assert set(started) - set(ends) == {job["run"] for job in dashboard.running.values()}
        assert_true(claims, events)


def assert_true(claims: list[Answer], events: list[dict[str, Any]]) -> None:
    """Each end that somebody was told of is the end in the log; each start as well."""
    how = {e["run"]: e for e in events if e["event"] in ("killed", "finished")}
    started = {event["job"]["run"] for event in events if event["event"] == "started"}
    told = Counter(job["run"] for job in claims if job["state"] != "running")
    assert max(told.values()) == 1, "two callers were told that they ended the same run"
    for job in claims:
        if job["state"] == "running":
            assert job["run"] in started
        else:
            event = how[job["run"]]
            assert event["event"] == job["state"]
            assert event["seq"] == job["seq"]
            assert event.get("outcome") == job["outcome"]


async def test_of_many_starts_of_one_connid_one_wins(serve: Serve) -> None:
    app = await serve(rate_limit=0)
    for number in range(200):
        starts = (command(app, "request", connid=str(number), time=60) for _ in range(20))
        answers = await asyncio.gather(*starts)
        (won,) = [answer for answer in answers if answer["ok"]]
        lost = [answer for answer in answers if not answer["ok"]]
        assert {answer["error"]["code"] for answer in lost} == {"conflict"}
        assert {answer["job"]["run"] for answer in lost} == {won["job"]["run"]}


async def test_a_caller_that_goes_away_leaves_the_truth_to_the_others(serve: Serve) -> None:
    app = await serve(rate_limit=0)
    start = asyncio.create_task(command(app, "request", connid="a", time=60))
    await asyncio.sleep(0)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    killed = await asyncio.wait_for(command(app, "kill", connid="a"), 5)
    assert killed["result"] == "killed"


@pytest.mark.embedded
async def test_one_who_looks_at_another_s_start_is_answered(
    tmp_path: Path, connect: Connect
) -> None:
    async with serving(database=str(tmp_path / "a.db")) as app:
        app.commands._begun = 1  # No command of these is timed.
        backend = app.store._backend  # type: ignore[attr-defined]
        write, may_write = backend.write, threading.Semaphore(0)

        def wait_and_write(batch: Batch) -> None:
            may_write.acquire()
            write(batch)

        backend.write = wait_and_write
        ana, bo = await connect(app.url), await connect(app.url)
        ask = asyncio.create_task
        waiting = [ask(ana.command("request", {"connid": "one", "time": 60}))]
        await eventually(lambda: not app.store._waiting)  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
        # Not the first of hers, so it is he who waits for it before she does.
        waiting.append(ask(ana.command("request", {"connid": "two", "time": 60})))
        await asyncio.sleep(0.05)
        waiting.append(ask(bo.command("status", {"connid": "two"})))
        await asyncio.sleep(0.05)
        may_write.release(2)
        answers = await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
        assert [answer["result"] for answer in answers] == ["started", "started", "status"]
        may_write.release(10)


@pytest.mark.embedded
@pytest.mark.parametrize("broken", ["submit", "told"])
async def test_a_command_that_fails_keeps_no_other_from_its_answer(
    app: App, connect: Connect, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    app.commands._begun = 1  # No command of these is timed.
    owner = app.store if broken == "submit" else app.commands._handlers
    works, calls = getattr(owner, broken), 0

    def fail_once(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("broken")
        return works(*args)

    monkeypatch.setattr(owner, broken, fail_once)
    client = await connect(app.url)
    starts = [client.command("request", {"connid": str(number), "time": 60}) for number in range(5)]
    answers = await asyncio.wait_for(asyncio.gather(*starts), PATIENCE)
    codes = [answer["ok"] or answer["error"]["code"] for answer in answers]
    assert codes == [True, "internal", True, True, True]
