"""A request that is sent again with its `key` starts nothing more, and is told the truth."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from server.app import App
from server.store.redis.store import RedisStore
from tests.conftest import Connect, Serve, Settings
from tests.support.clients import CLIENTS, NodeClient, TestClient
from tests.support.network import Proxy
from tests.support.servers import command, eventually, serving
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.each_store

KEYED = {"connid": "backup", "time": 60, "key": "k-1"}


@pytest.fixture(params=CLIENTS)
async def client(app: App, connect: Connect, request: pytest.FixtureRequest) -> TestClient:
    return await connect(app.url, request.param, name="ana")


async def history(client: TestClient) -> list[tuple[str, str]]:
    jobs = (await client.command("history", {}))["jobs"]
    return [(job["run"], job["reason"] or job["outcome"]) for job in reversed(jobs)]


@pytest.mark.parametrize("how", ["reject", "keep", "replace"])
async def test_a_request_that_comes_again_is_answered_as_the_first(
    client: TestClient, how: str
) -> None:
    first = await client.command("request", {**KEYED, "if_running": how})
    assert first["result"] == "started" and "repeated" not in first
    job = first["job"]
    assert job["key"] == "k-1"
    again = await client.command("request", {**KEYED, "if_running": how})
    assert again == {**first, "repeated": True}
    await client.command("progress", {"connid": "backup", "run": job["run"], "done": 0.5})
    again = await client.command("request", {**KEYED, "if_running": how, "time": 5})
    at = again["job"]["progress"]["at"]
    assert again["job"] == {**job, "progress": {"done": 0.5, "note": None, "at": at}}
    assert await history(client) == []


@pytest.mark.parametrize("how", ["reject", "keep", "replace"])
async def test_it_says_how_the_job_has_ended_meanwhile(client: TestClient, how: str) -> None:
    first = await client.command("request", {**KEYED, "if_running": how})
    ended = (await client.command("kill", {"connid": "backup", "reason": "enough"}))["job"]
    again = await client.command("request", {**KEYED, "if_running": how})
    assert (again["result"], again["repeated"], again["seq"]) == ("started", True, 2)
    assert again["job"] == ended
    assert again["job"]["run"] == first["job"]["run"]
    assert (await client.command("status", {}))["jobs"] == []


async def test_it_neither_kills_nor_hides_what_has_come_after(client: TestClient) -> None:
    replace = {"if_running": "replace"}
    first = (await client.command("request", KEYED))["job"]
    second = (await client.command("request", {**KEYED, **replace, "key": "k-2"}))["job"]
    again = await client.command("request", {**KEYED, **replace})
    assert (again["job"]["run"], again["job"]["reason"]) == (first["run"], "replaced")
    third = (await client.command("request", {**KEYED, **replace, "key": None}))["job"]
    assert "key" not in third
    again = await client.command("request", {**KEYED, **replace, "key": "k-2"})
    assert again["job"]["run"] == second["run"]
    assert (await client.command("request", {**KEYED, "key": "k-3"}))["error"]["code"] == "conflict"
    kept = await client.command("request", {**KEYED, "key": "k-3", "if_running": "keep"})
    assert (kept["result"], kept["job"]["run"]) == ("exists", third["run"])
    assert await history(client) == [(first["run"], "replaced"), (second["run"], "replaced")]


async def test_a_key_is_that_of_one_connid_in_one_room(client: TestClient) -> None:
    places = [{}, {"connid": "other"}, {"room": "ops"}]
    jobs = [(await client.command("request", {**KEYED, **place})) for place in places]
    assert len({answer["job"]["run"] for answer in jobs}) == 3
    assert not any("repeated" in answer for answer in jobs)


@pytest.mark.parametrize("key", ["", "x" * 65, "a\nb", 5, ["k"]])
async def test_a_key_that_is_none(client: TestClient, key: Any) -> None:
    answer = await client.command("request", {**KEYED, "key": key})
    assert (answer["error"]["code"], answer["error"]["field"]) == ("invalid", "key")


async def test_what_was_refused_is_decided_anew(client: TestClient) -> None:
    await client.command("request", {"connid": "backup", "time": 60})
    assert (await client.command("request", KEYED))["error"]["code"] == "conflict"
    await client.command("kill", {"connid": "backup"})
    answer = await client.command("request", KEYED)
    assert answer["result"] == "started" and "repeated" not in answer


async def test_many_at_once_start_one_job(kept: Settings, connect: Connect) -> None:
    async with serving(**kept, rate_limit=0) as app:
        clients = [await connect(app.url, kind, name=kind) for kind in CLIENTS for _ in range(3)]
        for round in range(20):
            request = {**KEYED, "key": f"k-{round}", "if_running": "replace"}
            asked = [client.command("request", request) for client in clients]
            killed = clients[0].command("kill", {"connid": "backup"})
            *answers, _ = await asyncio.gather(*asked, killed)
            assert len({answer["job"]["run"] for answer in answers}) == 1
            assert sum("repeated" not in answer for answer in answers) == 1
        await clients[0].command("kill", {"connid": "backup"})
        ended = (await clients[0].command("history", {"limit": 500}))["jobs"]
        assert len({job["key"] for job in ended}) == len(ended) == 20


async def test_commands_of_one_client_keep_their_order(app: App, connect: Connect) -> None:
    client = await connect(app.url, "node")
    first = client.command("request", KEYED)
    killed = client.command("kill", {"connid": "backup"})
    again = client.command("request", {"connid": "backup", "time": 60})
    kept = client.command("request", {**KEYED, "if_running": "keep"})
    answers = await asyncio.gather(first, killed, again, kept)
    results = [answer.get("result") for answer in answers]
    assert results == ["started", "killed", "started", "started"]
    assert answers[1]["job"]["run"] == answers[0]["job"]["run"] == answers[3]["job"]["run"]
    assert answers[3]["job"]["state"] == "killed"


async def test_a_key_is_known_after_a_restart(kept: Settings) -> None:
    async with serving(**kept) as app:
        running = (await command(app, "request", **KEYED))["job"]
        ended = (await command(app, "request", **{**KEYED, "connid": "ended"}))["job"]
        await command(app, "kill", connid="ended")
    async with serving(**kept) as app:
        for connid, job in (("backup", running), ("ended", ended)):
            again = await command(app, "request", **{**KEYED, "connid": connid})
            assert (again["repeated"], again["job"]["run"]) == (True, job["run"])
        await command(app, "stopped", connid="ended", run=ended["run"], exit=9)
        again = await command(app, "request", **{**KEYED, "connid": "ended"})
        assert (again["job"]["state"], again["job"]["exit"]) == ("killed", 9)
        assert [job.run for job in (await app.store.board("main")).running.values()] == [
            running["run"]
        ]


@pytest.mark.parametrize("place", ["memory", "kept"])
async def test_a_key_is_forgotten_with_its_job(kept: Settings, place: str) -> None:
    async with serving(**(kept if place == "kept" else {}), history=1, rate_limit=0) as app:
        first = (await command(app, "request", **KEYED))["job"]
        await command(app, "kill", connid="backup")
        for _ in range(60):  # More than the log may outgrow its bound by.
            await command(app, "request", connid="other", time=60)
            await command(app, "kill", connid="other")
        again = await command(app, "request", **KEYED)
        assert "repeated" not in again and again["job"]["run"] != first["run"]
        await command(app, "request", connid="other", time=60)
        assert (await command(app, "request", **KEYED))["repeated"]


async def test_no_more_keys_are_kept_than_jobs(new_log: Callable[[], Settings]) -> None:
    async with serving(**new_log(), history=1, rate_limit=0) as app:
        for number in range(120):
            await command(app, "request", **{**KEYED, "key": f"k-{number}"})
            await command(app, "kill", connid="backup")
        if isinstance(app.store, RedisStore):
            fields = await app.store._calls.ask("HLEN", f"{app.store._calls.prefix}keys:main")
            assert fields < 2 * 60  # Two for each that the log may outgrow its bound by.


async def test_a_key_is_forgotten_with_its_room(serve: Serve) -> None:
    app = await serve(room_retention=0.01)
    await command(app, "request", **KEYED)
    await command(app, "kill", connid="backup")
    await asyncio.sleep(0.02)
    await app.store.sweep()
    assert "repeated" not in await command(app, "request", **KEYED)


async def test_a_key_is_that_of_whose_token_it_came_with(serve: Serve, connect: Connect) -> None:
    app = await serve(auth_secret=SECRET)
    ana = await connect(app.url, token=token(sub="ana"))
    bo = await connect(app.url, token=token(sub="bo"))
    job = (await ana.command("request", KEYED))["job"]
    assert (await bo.command("request", KEYED))["error"]["code"] == "conflict"
    await ana.command("kill", {"connid": "backup"})
    other = await bo.command("request", KEYED)
    assert "repeated" not in other and other["job"]["run"] != job["run"]
    for client, run in ((ana, job["run"]), (bo, other["job"]["run"])):
        again = await client.command("request", {**KEYED, "if_running": "replace"})
        assert (again["repeated"], again["job"]["run"]) == (True, run)


async def test_http_takes_the_key_as_a_header(app: App) -> None:
    body = {"connid": "backup", "time": 60}
    async with aiohttp.ClientSession(app.url) as session:
        answers = []
        for key in ("k-1", '"k-1"'):
            headers = {"Idempotency-Key": key}
            async with session.post("/api/jobs", json=body, headers=headers) as response:
                assert response.status == 201
                answers.append(await response.json())
    assert answers[1] == {**answers[0], "repeated": True}
    assert answers[0]["job"]["key"] == "k-1"


class Retrying(NodeClient):
    """The official client with `retries`: it sends again what is not acknowledged in time."""

    options = {**NodeClient.options, "retries": 10, "ackTimeout": 300, "reconnectionDelay": 10}


@pytest.mark.parametrize("line", ["is slow", "is lost"])
@pytest.mark.parametrize("how", ["reject", "keep", "replace"])
async def test_the_official_client_may_retry(app: App, how: str, line: str) -> None:
    async with Proxy(app.url, mute_at=b'"result":"started"') as proxy:
        client = Retrying()
        await client.connect(proxy.url)
        answer = asyncio.create_task(client.command("request", {**KEYED, "if_running": how}))
        await proxy.muted.wait()
        if line == "is slow":
            await eventually(lambda: app.counts.commands["request"] > 1)
            proxy.mend()
        else:
            proxy.mend()
            proxy.drop()
        assert (await answer)["repeated"]
        (job,) = (await client.command("status", {}))["jobs"]
        assert job["run"] == (await answer)["job"]["run"]
        assert (await client.command("history", {}))["jobs"] == []
        await client.close()
