"""The date is set, the process or its disk stands still: jobs get their time all the same.

What a test adds to `clock.now` has passed; by what it adds to `clock.set_by` the date was set.
"""

import asyncio
import signal
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jwt
import pytest

from server.app import App
from server.clock import Clock as ServiceClock
from server.store.embedded.batch import Batch
from server.store.embedded.store import EmbeddedStore
from tests.conftest import Connect, Serve, Settings
from tests.support.clients import PlainClient
from tests.support.dates import Date
from tests.support.servers import Clock, Process, command, eventually, serving

pytestmark = pytest.mark.each_store

HOUR = 3600.0
STEPS = [HOUR, -HOUR, 40 * 24 * HOUR, -40 * 24 * HOUR]
SECRET = "not a secret but thirty-two bytes"


async def instants(app: App, room: str = "main") -> list[float]:
    """When the events of a room were, in their order."""
    entries = await app.store.read(room, 0)
    assert entries is not None
    return [entry.event.at for entry in entries]


async def ended(app: App) -> dict[str, Any]:
    (job,) = (await command(app, "history", limit=1))["jobs"]
    return job


async def set_date(app: App, clock: Clock, by: float) -> None:
    """Set the date, and wait until the server has noticed."""
    steps = app.counts.clock_steps
    before = sum(steps.values())
    clock.set_by += by
    await eventually(lambda: sum(steps.values()) > before)


async def end_due(app: App, connid: str = "a") -> None:
    """Have ended what is due, and wait for the job where that was left to the server's own task."""
    await app.timeouts.end_due()
    await app.store.running("main", connid)


@pytest.mark.parametrize("by", STEPS)
async def test_a_date_that_is_set_changes_nothing_for_a_job(
    serve: Serve, caplog: pytest.LogCaptureFixture, by: float
) -> None:
    clock = Clock()
    app = await serve(now=clock)
    job = (await command(app, "request", connid="a", time=20, lease=15))["job"]
    await set_date(app, clock, by)
    assert "the machine's date was set" in caplog.text
    assert app.counts.clock_steps["forward" if by > 0 else "back"] == 1
    assert app.store.clock.drift == by
    clock.now += 10
    await end_due(app)
    (running,) = (await command(app, "status"))["jobs"]
    assert (running["run"], running["remaining"]) == (job["run"], 10)
    assert (await command(app, "progress", connid="a", run=job["run"]))["ok"]
    second = (await command(app, "request", connid="b", time=100))["job"]
    assert second["started_at"] == job["started_at"] + 10
    clock.now += 10
    await eventually(lambda: app.counts.lateness.counts[0] == 1)
    end = await ended(app)
    assert (end["outcome"], end["late"]) == ("elapsed", False)
    assert end["ended_at"] == job["deadline"]
    times = await instants(app)
    assert all(earlier <= later for earlier, later in pairwise(times))


async def test_a_lease_is_lost_after_its_time_whatever_the_date(serve: Serve) -> None:
    clock = Clock()
    app = await serve(now=clock)
    await command(app, "request", connid="a", time=HOUR, lease=15)
    await set_date(app, clock, -HOUR)
    clock.now += 14
    await end_due(app)
    assert len((await command(app, "status"))["jobs"]) == 1
    clock.now += 2
    await eventually(lambda: sum(app.counts.lateness.counts) == 1)
    assert (await ended(app))["outcome"] == "lost"


async def test_a_step_lets_go_of_no_room(serve: Serve) -> None:
    clock = Clock()
    app = await serve(now=clock)
    await command(app, "request", connid="a", time=60)
    await command(app, "kill", connid="a")
    await set_date(app, clock, 40 * 24 * HOUR)
    await app.store.sweep()
    assert app.store.rooms_evicted == 0
    assert len((await command(app, "history"))["jobs"]) == 1


async def test_tokens_run_out_by_the_date(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    app = await serve(now=clock, auth_secret=SECRET)
    claims = {"sub": "ana", "role": "viewer", "rooms": ["*"], "exp": int(clock() + HOUR)}
    client = await connect(app.url, token=jwt.encode(claims, SECRET, "HS256"))
    assert (await client.command("status"))["ok"]
    clock.set_by += HOUR
    assert (await client.event("closing"))["code"] == "unauthorized"


@pytest.mark.embedded
@pytest.mark.parametrize("by", [HOUR, -HOUR])
async def test_a_running_job_is_counted_on_after_a_restart(kept: Settings, by: float) -> None:
    clock = Clock()
    async with serving(**kept, now=clock) as app:
        job = (await command(app, "request", connid="a", time=20))["job"]
        await set_date(app, clock, by)
    clock.now += 10
    async with serving(**kept, now=clock) as app:
        assert (await command(app, "status"))["jobs"][0]["remaining"] == 10
        assert app.store.clock.drift == by
        clock.now += 10
        await end_due(app)
        end = await ended(app)
        assert (end["outcome"], end["ended_at"]) == ("elapsed", job["deadline"])


async def test_a_restart_takes_the_date_where_nothing_is_running(kept: Settings) -> None:
    clock = Clock()
    async with serving(**kept, now=clock) as app:
        await command(app, "request", connid="a", time=20)
        await set_date(app, clock, HOUR)
        await command(app, "kill", connid="a")
    async with serving(**kept, now=clock) as app:
        assert (await command(app, "status"))["now"] == clock()
        assert app.store.clock.drift == 0


async def test_the_log_s_time_does_not_fall_over_a_restart(kept: Settings) -> None:
    clock = Clock()
    async with serving(**kept, now=clock) as app:
        await command(app, "request", connid="gone", time=20)
        clock.now += 5
        killed = (await command(app, "kill", connid="gone"))["job"]
        started = (await command(app, "request", connid="a", time=20, lease=15))["job"]
    clock.set_by -= 24 * HOUR
    async with serving(**kept, now=clock) as app:
        await command(app, "stopped", connid="gone", run=killed["run"])
        clock.now += 20
        await end_due(app)
        end = await ended(app)
        assert (end["run"], end["ended_at"]) == (started["run"], started["deadline"])
        times = await instants(app)
        assert all(earlier <= later for earlier, later in pairwise(times))


async def test_no_time_is_too_late_for_a_start(serve: Serve) -> None:
    app = await serve(now=Clock(5_000_000_000.0))
    assert (await command(app, "request", connid="a", time=20))["ok"]


def test_a_clock_neither_falls_nor_jumps() -> None:
    date = Clock(1000.0)
    clock = ServiceClock(date, date.steady)
    date.set_by -= 500
    assert (clock.now(), clock.drift) == (1000, -500)
    clock.reach(900)
    assert clock.now() == 1000
    clock.reach(1100)
    date.now += 1
    assert clock.now() == 1101
    clock.begin(50)
    assert clock.now() == 50


@pytest.fixture
async def process(kept: Settings, tmp_path: Path) -> Any:
    """A server of its own process."""
    environ = {name.upper(): str(value) for name, value in kept.items()}
    database = Path(environ.pop("DATABASE", tmp_path / "unused.db"))
    async with Process(database, **environ) as process:
        yield process


@pytest.mark.slow
async def test_owners_keep_their_jobs_through_a_pause(process: Process, connect: Connect) -> None:
    owner = await connect(process.url, "websocket")
    assert isinstance(owner, PlainClient)
    job = (await owner.command("request", {"connid": "leased", "time": 60, "lease": 1.5}))["job"]
    await owner.command("request", {"connid": "short", "time": 2})
    process._signal(signal.SIGSTOP)
    reports = []
    for _ in range(6):
        await asyncio.sleep(0.5)
        report = owner.command("progress", {"connid": "leased", "run": job["run"]})
        reports.append(asyncio.create_task(report))
    process._signal(signal.SIGCONT)
    assert all([(await report)["ok"] for report in reports])
    short = await owner.event("finished", connid="short")
    assert (short["outcome"], short["late"]) == ("elapsed", True)
    status = await owner.command("status")
    assert [running["connid"] for running in status["jobs"]] == ["leased"]
    # Whose owner is silent from now on is lost all the same.
    assert (await owner.event("finished", connid="leased"))["outcome"] == "lost"


@pytest.mark.slow
@pytest.mark.embedded
async def test_owners_keep_their_jobs_while_a_disk_hangs(serve: Serve, tmp_path: Path) -> None:
    disk, hung = threading.Event(), threading.Event()
    settings = {"stall_timeout": 0.2, "retry_interval": 0.1, "rate_limit": 0}
    app = await serve(database=str(tmp_path / "jobs.db"), **settings)
    store = app.store
    assert isinstance(store, EmbeddedStore)
    job = (await command(app, "request", connid="leased", time=60, lease=0.5))["job"]
    short = (await command(app, "request", connid="short", time=0.6))["job"]
    write = store._backend.write

    def hang(batch: Batch) -> None:
        hung.set()
        disk.wait(20)
        write(batch)

    store._backend.write = hang  # type: ignore[method-assign]
    # It waits for its answer, and reports no more until it has come.
    mine = {"connid": "leased", "run": job["run"]}
    report = asyncio.create_task(command(app, "progress", **mine, done=0.5))
    await eventually(hung.is_set)
    await eventually(lambda: app.store.now() > job["started_at"] + 1.5)
    disk.set()
    assert (await report)["ok"]
    assert (await command(app, "progress", **mine))["ok"]
    (end,) = (await command(app, "history"))["jobs"]
    assert (end["run"], end["outcome"]) == (short["run"], "elapsed")
    board = await store.board("main")
    await eventually(lambda: not board.running)
    assert board.ended[-1].outcome == "lost"


@pytest.mark.embedded
async def test_a_pause_is_counted_and_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    app = await serve(stall_timeout=0.1)
    threading.Event().wait(0.6)
    await eventually(lambda: app.counts.stalls == 1)
    assert "the process stalled for" in caplog.text


@pytest.mark.slow
@pytest.mark.embedded
async def test_a_job_of_three_seconds_takes_three_on_any_machine(
    tmp_path: Path, connect: Connect
) -> None:
    date = Date(tmp_path)
    server = Process(tmp_path / "jobs.db", **date.environ)
    server.forks = False
    async with server:
        client = await connect(server.url, "websocket")
        begun = asyncio.get_running_loop().time()
        job = (await client.command("request", {"connid": "a", "time": 3, "lease": 3}))["job"]
        for told, by in (("forward", 3600), ("back", -3600)):
            date.set_by(by)
            await eventually(partial(logged, server, f"was set {told}"))
        assert (await client.command("progress", {"connid": "a", "run": job["run"]}))["ok"]
        finished = await client.event("finished")
        assert finished["outcome"] == "elapsed"
        assert finished["at"] >= job["deadline"]
        assert asyncio.get_running_loop().time() >= begun + 3


def logged(server: Process, text: str) -> bool:
    return text in server.log
