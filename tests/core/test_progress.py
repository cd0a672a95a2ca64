"""What a job keeps of its owner's reports, and what is none."""

import pytest

from server.app import App
from tests.conftest import Connect, Serve, Settings
from tests.support.servers import Clock, command, eventually, serving

pytestmark = pytest.mark.each_store


async def test_a_report_says_when_it_was_made(kept: Settings) -> None:
    clock = Clock()
    async with serving(**kept, now=clock, rate_limit=0) as app:
        job = (await command(app, "request", connid="a", time=600))["job"]
        assert job["progress"] is None
        clock.now += 5
        await command(app, "progress", connid="a", run=job["run"], done=0.5, note="half")
        report = {"done": 0.5, "note": "half", "at": pytest.approx(app.store.now())}
        (running,) = (await command(app, "status"))["jobs"]
        assert running["progress"] == report
        clock.now += 5
    async with serving(**kept, now=clock, rate_limit=0) as app:
        assert (await command(app, "kill", connid="a"))["job"]["progress"] == report
        assert (await command(app, "history"))["jobs"][0]["progress"] == report


async def test_a_renewal_of_a_lease_is_no_report(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock, progress_rate=1000)
    client = await connect(app.url)
    job = (await command(app, "request", connid="a", time=600, lease=10))["job"]
    mine = {"connid": "a", "run": job["run"]}
    said = {"done": 0.5, "note": "half"}
    assert (await command(app, "progress", **mine))["ok"]
    await command(app, "progress", **mine, **said)
    first = await client.event("progress")
    for renewal in (said, {}, said):
        clock.now += 6
        assert (await command(app, "progress", **mine, **renewal))["ok"]
    (running,) = (await command(app, "status"))["jobs"]
    assert running["progress"] == {**said, "at": first["at"]}
    await command(app, "progress", **mine, done=0.5)
    second = await client.event("progress", note=None)
    assert second["at"] == pytest.approx(first["at"] + 18)
    assert [body["at"] for name, body in client.events if name == "progress"] == [
        first["at"],
        second["at"],
    ]
    clock.now += 11
    await client.event("finished", outcome="lost")


async def test_who_comes_back_hears_when_a_report_was_made(app: App, connect: Connect) -> None:
    job = (await command(app, "request", connid="a", time=600))["job"]
    since = {"main": {"epoch": app.store.epoch, "seq": 1}}
    await command(app, "progress", connid="a", run=job["run"], done=0.5)
    board = await app.store.board("main")
    await eventually(lambda: board.running["a"].progress is not None)
    at = board.running["a"].progress.at  # type: ignore[union-attr]
    back = await connect(app.url, since=since)
    assert (await back.event("progress"))["at"] == at
