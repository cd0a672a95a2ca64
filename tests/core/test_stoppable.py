"""What a kill can do to a job's work, as its owner says."""

import pytest

from server.app import App
from tests.conftest import Connect
from tests.support.servers import command

pytestmark = pytest.mark.each_store


@pytest.mark.parametrize("stoppable", ["yes", "cooperative", "no"])
async def test_everyone_sees_what_a_kill_can_do(app: App, connect: Connect, stoppable: str) -> None:
    watcher = await connect(app.url)
    asked = {"connid": "a", "time": 60, "stoppable": stoppable}
    assert (await command(app, "request", **asked))["job"]["stoppable"] == stoppable
    started = await watcher.event("started")
    assert started["job"]["stoppable"] == stoppable
    late = await connect(app.url)
    assert [job["stoppable"] for job in (await late.event("snapshot"))["running"]] == [stoppable]
    assert (await command(app, "kill", connid="a"))["job"]["stoppable"] == stoppable
    (ended,) = (await command(app, "history"))["jobs"]
    assert ended["stoppable"] == stoppable


async def test_a_job_whose_owner_says_nothing_of_it_has_no_such_field(app: App) -> None:
    assert "stoppable" not in (await command(app, "request", connid="a", time=60))["job"]
    assert "stoppable" not in (await command(app, "kill", connid="a"))["job"]
    told = await command(app, "request", connid="b", time=60, stoppable=None)
    assert "stoppable" not in told["job"]
