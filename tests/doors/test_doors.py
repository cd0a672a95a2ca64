"""Every command and every error code, through each of the doors, with real clients."""

import asyncio
from typing import Any

import pytest

from server.app import App
from server.core import pipeline
from tests.conftest import Connect, Serve
from tests.support.clients import CLIENTS, HttpClient, TestClient

pytestmark = pytest.mark.each_store

VIA = {"python": "socket", "polling": "socket", "message": "socket", "node": "socket"}
VIA |= {"websocket": "websocket", "http": "http"}


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def client(app: App, connect: Connect, kind: str) -> TestClient:
    return await connect(app.url, kind, name="ana")


async def start(client: TestClient, connid: Any = "backup", **fields: Any) -> dict[str, Any]:
    answer = await client.command("request", {"connid": connid, "time": 60, **fields})
    assert answer["ok"], answer
    return answer["job"]


def code(answer: dict[str, Any]) -> str:
    assert answer["ok"] is False
    assert answer["error"]["message"]
    return answer["error"]["code"]


async def test_request_starts_a_job(client: TestClient, app: App) -> None:
    answer = await client.command("request", {"connid": "backup", "time": 60, "note": "weekly"})
    job = answer.pop("job")
    expected = {"ok": True, "result": "started", "room": "main", "seq": 1}
    assert answer == {**expected, "epoch": app.store.epoch}
    assert job["deadline"] - job["started_at"] == pytest.approx(60)
    assert {key: job[key] for key in ("connid", "room", "state", "time", "by", "note")} == {
        "connid": "backup",
        "room": "main",
        "state": "running",
        "time": 60,
        "by": "ana",
        "note": "weekly",
    }


async def test_numbers_and_numeric_strings_are_accepted(client: TestClient) -> None:
    answer = await client.command("request", {"connid": 12, "time": "1.5", "lease": "30"})
    assert answer["job"]["connid"] == "12"
    assert answer["job"]["time"] == 1.5
    assert answer["job"]["lease"] == 30


async def test_a_whole_number_may_have_the_form_of_a_float(client: TestClient, app: App) -> None:
    job = (await client.command("request", {"connid": 12.0, "time": 60}))["job"]
    assert job["connid"] == "12"
    since = {"epoch": app.store.epoch, "seq": 0.0}
    assert len((await client.command("status", {"since": since}))["events"]) == 1
    await client.command("kill", {"connid": "12"})
    stopped = {"connid": "12", "run": job["run"], "exit": -15.0}
    assert (await client.command("stopped", stopped))["job"]["exit"] == -15
    (ended,) = (await client.command("history", {"limit": 1.0, "before": 3.0}))["jobs"]
    assert (ended["connid"], ended["exit"]) == ("12", -15)
    for limit in (1.5, 0.5, 501.0):
        assert (await client.command("history", {"limit": limit}))["error"]["field"] == "limit"
    for connid in (12.5, 1e300, True):
        answer = await client.command("request", {"connid": connid, "time": 60})
        assert answer["error"]["field"] == "connid"


async def test_a_connid_may_have_any_printable_characters(client: TestClient) -> None:
    connid = "a/b?c#d%20 é漢😀&=."
    await start(client, connid)
    assert (await client.command("status", {"connid": connid}))["jobs"][0]["connid"] == connid
    assert (await client.command("kill", {"connid": connid}))["result"] == "killed"


async def test_conflict_shows_the_running_job(client: TestClient) -> None:
    job = await start(client)
    answer = await client.command("request", {"connid": "backup", "time": 5})
    assert code(answer) == "conflict"
    assert answer["job"] == job


async def test_keep_answers_with_the_running_job(client: TestClient) -> None:
    job = await start(client)
    again = {"connid": "backup", "time": 5, "if_running": "keep"}
    answer = await client.command("request", again)
    assert (answer["result"], answer["job"]) == ("exists", job)


async def test_replace_kills_the_running_job_first(client: TestClient, kind: str) -> None:
    old = await start(client)
    again = {"connid": "backup", "time": 5, "if_running": "replace"}
    answer = await client.command("request", again)
    assert (answer["result"], answer["seq"]) == ("started", 3)
    assert answer["job"]["run"] != old["run"]
    (ended,) = (await client.command("history"))["jobs"]
    assert (ended["run"], ended["state"], ended["reason"]) == (old["run"], "killed", "replaced")
    assert (ended["by"], ended["via"]) == ("ana", VIA[kind])


async def test_kill_says_by_whom_how_and_why(client: TestClient, kind: str) -> None:
    job = await start(client)
    answer = await client.command("kill", {"connid": "backup", "reason": "too slow"})
    assert (answer["result"], answer["seq"]) == ("killed", 2)
    ended = answer["job"]
    assert (ended["run"], ended["state"], ended["by"]) == (job["run"], "killed", "ana")
    assert (ended["reason"], ended["via"], ended["started_by"]) == ("too slow", VIA[kind], "ana")


async def test_a_command_line_says_so(app: App, connect: Connect, kind: str) -> None:
    client = await connect(app.url, kind, name="ana", via="cli")
    await start(client)
    assert (await client.command("kill", {"connid": "backup"}))["job"]["via"] == "cli"


async def test_kill_of_another_run_is_refused(client: TestClient) -> None:
    await start(client)
    killed = (await client.command("kill", {"connid": "backup"}))["job"]
    await start(client)
    answer = await client.command("kill", {"connid": "backup", "run": killed["run"]})
    assert code(answer) == "not_running"
    assert answer["job"]["run"] == killed["run"]


async def test_what_is_not_running_cannot_be_killed(client: TestClient) -> None:
    answer = await client.command("kill", {"connid": "nothing"})
    assert code(answer) == "not_running"
    assert "job" not in answer


async def test_status_lists_what_is_running(client: TestClient) -> None:
    await start(client, "a")
    await start(client, "b")
    await client.command("kill", {"connid": "a"})
    answer = await client.command("status")
    (job,) = answer["jobs"]
    assert (answer["result"], answer["seq"], job["connid"]) == ("status", 3, "b")
    assert job["remaining"] == pytest.approx(job["deadline"] - answer["now"], abs=0.01)
    assert 59 < job["remaining"] <= 60


async def test_status_of_one_job(client: TestClient) -> None:
    await start(client, "a")
    await start(client, "b")
    (job,) = (await client.command("status", {"connid": "b"}))["jobs"]
    assert job["connid"] == "b"
    assert code(await client.command("status", {"connid": "c"})) == "not_running"


async def test_status_since_a_position_lists_the_events(client: TestClient, app: App) -> None:
    await start(client, "a")
    await start(client, "b")
    since = {"epoch": app.store.epoch, "seq": 1}
    answer = await client.command("status", {"since": since})
    (event,) = answer["events"]
    assert (event["event"], event["seq"], event["job"]["connid"]) == ("started", 2, "b")
    assert "jobs" not in answer


async def test_status_since_another_epoch_lists_the_jobs(client: TestClient) -> None:
    await start(client, "a")
    answer = await client.command("status", {"since": {"epoch": "another", "seq": 1}})
    assert [job["connid"] for job in answer["jobs"]] == ["a"]


@pytest.mark.parametrize("outcome", ["done", "failed"])
async def test_the_owner_finishes_its_job(client: TestClient, outcome: str) -> None:
    job = await start(client)
    result = {"rows": [1, 2.5, None, True], "text": "é"}
    finish = {"connid": "backup", "run": job["run"], "outcome": outcome, "result": result}
    answer = await client.command("finish", finish)
    assert (answer["result"], answer["seq"]) == ("finished", 2)
    ended = answer["job"]
    assert (ended["state"], ended["outcome"], ended["result"]) == ("finished", outcome, result)
    answer = await client.command("finish", finish)
    assert code(answer) == "not_running"
    assert answer["job"] == ended


async def test_progress_is_kept(client: TestClient) -> None:
    job = await start(client)
    report = {"connid": "backup", "run": job["run"], "done": 0.4, "note": "12/30"}
    assert (await client.command("progress", report))["result"] == "ok"
    (job,) = (await client.command("status"))["jobs"]
    at = job["progress"]["at"]
    assert job["progress"] == {"done": 0.4, "note": "12/30", "at": at}
    answer = await client.command("progress", {"connid": "backup", "run": "another"})
    assert code(answer) == "not_running"


async def test_the_owner_of_a_killed_job_says_that_it_stopped(client: TestClient) -> None:
    job = await start(client)
    stopped = {"connid": "backup", "run": job["run"], "exit": 143}
    answer = await client.command("stopped", stopped)
    assert code(answer) == "not_running"
    assert answer["error"]["message"] == "backup is not killed, elapsed or lost in room main"
    await client.command("kill", {"connid": "backup"})
    assert code(await client.command("stopped", {**stopped, "connid": "other"})) == "not_running"
    for _ in range(2):  # Saying so twice is as good as once.
        answer = await client.command("stopped", stopped)
        assert (answer["result"], answer["seq"], answer["job"]["exit"]) == ("ok", 3, 143)
    assert (await client.command("history"))["jobs"][0]["exit"] == 143


async def test_history_is_newest_first_and_has_pages(client: TestClient) -> None:
    for connid in ("a", "b", "c"):
        await start(client, connid)
        await client.command("kill", {"connid": connid})
    first = await client.command("history", {"limit": 2})
    assert [job["connid"] for job in first["jobs"]] == ["c", "b"]
    rest = await client.command("history", {"limit": 2, "before": first["before"]})
    assert [job["connid"] for job in rest["jobs"]] == ["a"]
    assert rest["before"] is None
    one = await client.command("history", {"connid": "b"})
    assert [job["connid"] for job in one["jobs"]] == ["b"]


async def test_rooms_are_listed_with_what_runs_in_them(client: TestClient) -> None:
    for connid, room in [("a", "one"), ("b", "two"), ("c", "two"), ("d", "three")]:
        await start(client, connid, room=room)
    await client.command("kill", {"connid": "d", "room": "three"})
    answer = await client.command("rooms")
    assert answer["rooms"] == [{"room": "two", "running": 2}, {"room": "one", "running": 1}]


async def test_rooms_are_apart(client: TestClient) -> None:
    await start(client, "same", room="one")
    await start(client, "same", room="two")
    assert (await client.command("kill", {"connid": "same", "room": "one"}))["ok"]
    assert (await client.command("status", {"room": "one"}))["jobs"] == []
    assert len((await client.command("status", {"room": "two"}))["jobs"]) == 1


async def test_invalid_names_the_field(client: TestClient) -> None:
    answer = await client.command("request", {"connid": "a", "time": -1})
    assert code(answer) == "invalid"
    assert answer["error"]["field"] == "time"
    assert "above 0" in answer["error"]["message"]


async def test_unknown_routes_are_answered(client: TestClient) -> None:
    assert code(await client.command("explode", {"connid": "a"})) == "unknown_route"


async def test_a_route_must_not_contradict_the_event(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    answer = await client.command("request", {"route": "kill", "connid": "a", "time": 1})
    assert code(answer) == "unknown_route"
    assert (await client.command("status", {"route": "status"}))["ok"]


async def test_too_many_running_jobs(serve: Serve, connect: Connect, kind: str) -> None:
    app = await serve(max_running=3, max_running_room=2)
    client = await connect(app.url, kind)
    await start(client, "a")
    await start(client, "b")
    assert code(await client.command("request", {"connid": "c", "time": 1})) == "too_many"
    await start(client, "c", room="other")
    answer = await client.command("request", {"connid": "d", "time": 1, "room": "other"})
    assert code(answer) == "too_many"
    await client.command("kill", {"connid": "a"})
    await start(client, "d")


async def test_rate_limit(serve: Serve, connect: Connect, kind: str) -> None:
    app = await serve(rate_limit=2)
    client = await connect(app.url, kind)
    answers = [await client.command("status") for _ in range(6)]
    assert [answer["ok"] for answer in answers[:4]] == [True] * 4
    assert code(answers[-1]) == "rate_limited"
    assert 0 < answers[-1]["error"]["retry_after"] <= 0.5


async def test_http_statuses(app: App, connect: Connect) -> None:
    client = await connect(app.url, "http")
    assert isinstance(client, HttpClient)

    async def status(name: str, payload: Any = None) -> int:
        await client.command(name, payload)
        return client.status

    assert await status("request", {"connid": "a", "time": 60}) == 201
    assert await status("request", {"connid": "a", "time": 60, "if_running": "keep"}) == 200
    assert await status("request", {"connid": "a", "time": 60}) == 409
    assert await status("request", {"connid": "a"}) == 400
    assert await status("kill", {"connid": "b"}) == 404
    assert await status("request", {"connid": "b", "time": 1, "note": "x" * 70_000}) == 413
    assert await status("explode", {"connid": "b"}) == 404
    assert await status("kill", {"connid": "a"}) == 200


async def test_addresses_may_hold_every_field(app: App, connect: Connect) -> None:
    client = await connect(app.url, "http")
    assert isinstance(client, HttpClient)
    job = await start(client)
    path = f"/api/jobs/backup/progress?run={job['run']}&done=0.5&note=half"
    async with client._session.post(path) as response:
        assert response.status == 200
    await client.command("kill", {"connid": "backup"})
    async with client._session.post(f"/api/jobs/backup/stopped?run={job['run']}&exit=-9") as again:
        assert (await again.json())["job"]["exit"] == -9
    async with client._session.put("/api/jobs") as response:
        assert response.status == 405
        assert "POST" in response.headers["Allow"]


async def test_who_sends_more_than_may_be_under_way_goes_on_at_once(
    serve: Serve, connect: Connect, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "LOOK_AGAIN", 3600)
    app = await serve(rate_limit=0, max_pipeline=2)
    client = await connect(app.url, kind)
    async with asyncio.timeout(30):
        await asyncio.gather(*(start(client, number) for number in range(40)))
