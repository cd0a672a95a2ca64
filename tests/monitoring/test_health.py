"""How the server says how it is: health, readiness, metrics, and a line of log for each change."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.app import App
from server.audit import AuditRecord
from server.counters import Histogram
from server.errors import Unavailable
from server.monitoring.process_log import json_line, text_line
from tests.conftest import Connect, Serve
from tests.support.servers import Process, command, eventually
from tests.support.tokens import SECRET, token

METRICS_TOKEN = "a token for who watches"


@pytest.fixture
async def session(app: App) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(app.url) as session:
        yield session


async def metrics(app: App) -> dict[str, float]:
    """The values that `/metrics` shows, by name and labels."""
    async with aiohttp.ClientSession(app.url) as session, session.get("/metrics") as response:
        assert response.status == 200
        families = text_string_to_metric_families(await response.text())
        return {
            sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): (
                sample.value
            )
            for family in families
            for sample in family.samples
        }


async def test_health_and_readiness_need_no_token(serve: Serve) -> None:
    app = await serve(auth_secret=SECRET)
    async with aiohttp.ClientSession(app.url) as session:
        for path in ("/healthz", "/readyz"):
            async with session.get(path, headers={"Host": "some.platform.example"}) as response:
                assert (response.status, await response.json()) == (200, {"ok": True})


async def test_a_store_that_does_not_answer_is_not_ready(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await serve(ready_timeout=0.1)
    never = asyncio.Event()

    async def fail() -> None:
        raise Unavailable("no")

    async def hang() -> None:
        await never.wait()

    async with aiohttp.ClientSession(app.url) as session:
        for ping in (fail, hang):
            monkeypatch.setattr(app.store, "ping", ping)
            async with session.get("/readyz") as response:
                assert (response.status, (await response.json())["ok"]) == (503, False)
            async with session.get("/healthz") as response:
                assert response.status == 200
        never.set()
        monkeypatch.undo()
        async with session.get("/readyz") as response:
            assert response.status == 200
        app.store.ready = False
        async with session.get("/readyz") as response:
            assert response.status == 503


async def test_a_server_that_stops_is_not_ready_at_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await serve()
    async with aiohttp.ClientSession(app.url) as session:
        async with session.get("/readyz") as response:
            assert response.status == 200
        closing = asyncio.Event()
        close = app.store.close

        async def slowly() -> None:
            await closing.wait()
            await close()

        monkeypatch.setattr(app.store, "close", slowly)
        stopping = asyncio.create_task(app.stop())
        await asyncio.sleep(0)
        async with session.get("/readyz") as response:  # Over the connection that is still open.
            assert response.status == 503
            assert "stopping" in await response.text()
        closing.set()
        await stopping


async def test_metrics_tell_what_happens(app: App, connect: Connect) -> None:
    client = await connect(app.url, "python", rooms=["main"], name="ana")
    plain = await connect(app.url, "websocket", rooms=["main"])
    job = (await client.command("request", {"connid": "secret", "time": 60}))["job"]
    await client.command("finish", {"connid": "secret", "run": job["run"], "outcome": "failed"})
    await client.command("request", {"connid": "secret", "time": 60})
    await plain.command("kill", {"connid": "secret"})
    await client.command("request", {"connid": "short", "time": 0.05})
    await plain.event("finished", connid="short")
    await client.command("request", {"connid": "a", "time": 60})
    await client.command("request", {"connid": "a", "time": 60})
    for _ in range(10):
        await client.command("explode")
        await client.command("status")
    found = await metrics(app)
    assert found["hourglass_jobs_running"] == 1
    assert found["hourglass_job_changes_total started "] == 4
    assert found["hourglass_job_changes_total killed "] == 1
    assert found["hourglass_job_changes_total finished failed"] == 1
    assert found["hourglass_job_changes_total finished elapsed"] == 1
    assert found["hourglass_commands_total request"] == 5
    assert found["hourglass_refusals_total conflict"] == 1
    assert found["hourglass_refusals_total unknown_route"] == 10
    assert found["hourglass_clients socket"] == found["hourglass_clients websocket"] == 1
    assert found["hourglass_sessions"] == 2
    assert found["hourglass_slow_clients"] == 0
    assert found["hourglass_rooms_open"] == 1
    assert found["hourglass_rooms_evicted_total"] == 0
    assert found["hourglass_store_ready"] == 1
    assert found["hourglass_clock_steps_total forward"] == 0
    assert found["hourglass_clock_steps_total back"] == 0
    assert found["hourglass_stalls_total"] >= 0  # A busy machine has some.
    assert abs(found["hourglass_clock_offset_seconds"]) < 1
    assert found["hourglass_deliveries_total"] >= 14
    assert found["hourglass_lateness_seconds_count"] == 1
    assert found["hourglass_commit_seconds_count"] >= 5
    assert found["process_resident_memory_bytes"] > 0
    assert found["hourglass_command_seconds_count"] >= 1
    await eventually(lambda: app.counts.lag.counts and sum(app.counts.lag.counts) > 0)


async def test_metrics_name_nobody_and_nothing(app: App, connect: Connect) -> None:
    client = await connect(app.url, name="ana-the-secret", rooms=["room-the-secret"])
    for name in ("request", "kill"):
        payload = {"connid": "job-the-secret", "time": 60, "room": "room-the-secret"}
        await client.command(name, payload)
    async with aiohttp.ClientSession(app.url) as session, session.get("/metrics") as response:
        text = await response.text()
        assert "the-secret" not in text
        assert "python_info" not in text


async def test_refusals_are_counted_by_reason(serve: Serve, connect: Connect) -> None:
    app = await serve(auth_secret=SECRET, connect_rate=2, failure_limit=1, rate_limit=0)
    async with aiohttp.ClientSession(app.url) as session:
        await session.get("/api/jobs", headers={"Origin": "http://evil.example"})
        for _ in range(6):
            await session.get("/ws")
        for _ in range(3):
            await session.get("/api/jobs")
        await session.get("/api/jobs", headers={"Authorization": f"Bearer {token(rooms=[])}"})
    found = await metrics(app)
    for reason in ("site", "connect_rate", "sign_ins", "unauthorized", "forbidden"):
        assert found[f"hourglass_refusals_total {reason}"] >= 1, reason


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        ({}, {}, 200),
        ({}, {"X-Forwarded-For": "1.1.1.1"}, 403),
        ({}, {"X-Forwarded-For": "127.0.0.1"}, 403),
        ({}, {"X-Forwarded-Proto": "https"}, 403),
        ({}, {"Forwarded": "for=1.1.1.1"}, 403),
        ({}, {"Via": "1.1 proxy"}, 403),
        ({}, {"X-Real-IP": "1.1.1.1"}, 403),
        ({"trusted_proxies": 1, "auth": "open"}, {}, 403),
        ({"trusted_proxies": 1, "auth_secret": SECRET}, {}, 403),
        ({"trusted_proxies": 1, "auth": "open"}, {"X-Forwarded-For": "unknown"}, 403),
        ({"trusted_proxies": 1, "auth": "open"}, {"X-Forwarded-For": ""}, 403),
        ({"trusted_proxies": 2, "auth": "open"}, {"X-Forwarded-For": "127.0.0.1"}, 403),
        ({"trusted_proxies": 1, "auth": "open"}, {"X-Real-IP": "127.0.0.1"}, 403),
        ({"trusted_proxies": 1, "auth": "open"}, {"X-Forwarded-For": "1.1.1.1"}, 403),
        ({"trusted_proxies": 1, "auth": "open"}, {"X-Forwarded-For": "127.0.0.1"}, 200),
        ({}, {"Host": "evil.example"}, 403),
        ({}, {"Host": ""}, 403),
        ({"auth_secret": SECRET}, {"Host": "evil.example"}, 403),
        ({"metrics_token": METRICS_TOKEN}, {}, 403),
        ({"metrics_token": METRICS_TOKEN}, {"Authorization": "Bearer wrong"}, 403),
        ({"metrics_token": METRICS_TOKEN}, {"Authorization": f"Bearer {METRICS_TOKEN}"}, 200),
        ({"metrics_token": METRICS_TOKEN}, {"Authorization": METRICS_TOKEN}, 403),
    ],
)
async def test_metrics_are_for_this_machine_or_who_has_their_token(
    serve: Serve, settings: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    app = await serve(**settings)
    async with (
        aiohttp.ClientSession(app.url) as session,
        session.get("/metrics", headers=headers) as response,
    ):
        assert response.status == status


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram((1, 2))
    for seconds in (-1, 0.5, 1, 1.5, 9):
        histogram.observe(seconds)
    assert histogram.buckets() == [("1.0", 3), ("2.0", 4), ("+Inf", 5)]
    assert histogram.sum == 12


async def test_each_change_is_a_line_of_the_log(tmp_path: Path, connect: Connect) -> None:
    environ = {"LOG_LEVEL": "INFO", "LOG_FORMAT": "", "TRUSTED_PROXIES": "1", "AUTH": "open"}
    async with Process(tmp_path / "jobs.db", **environ) as server:
        client = await connect(server.url, "websocket", name="ana")
        job = (await client.command("request", {"connid": "a", "time": 60}))["job"]
        again = {"connid": "a", "time": 60, "if_running": "replace"}
        second = (await client.command("request", again))["job"]
        await client.command("request", {"connid": "a", "time": 60})
        await client.command("finish", {"connid": "a", "run": second["run"]})
        await client.command("stopped", {"connid": "a", "run": job["run"]})
        async with aiohttp.ClientSession(server.url) as session:
            headers = {"X-Forwarded-For": "6.6.6.6, 1.1.1.1"}
            body = {"connid": "b", "time": 0.01}
            await session.post("/api/jobs?name=bo", json=body, headers=headers)
        await client.event("finished", connid="b")
        await server.terminate()
    lines = [json.loads(line) for line in server.log.splitlines()]
    changes = [line for line in lines if line["logger"] == "server.changes"]
    told = [(line["event"], line["connid"], line["by"], line["via"]) for line in changes]
    assert told == [
        ("started", "a", "ana", "websocket"),
        ("killed", "a", "ana", "websocket"),
        ("started", "a", "ana", "websocket"),
        ("finished", "a", "ana", "websocket"),
        ("stopped", "a", "ana", "websocket"),
        ("started", "b", "bo", "http"),
        ("finished", "b", "server", "server"),
    ]
    assert changes[0]["run"] == changes[1]["run"] == job["run"]
    assert changes[0]["room"] == "main"
    assert (changes[1]["reason"], changes[3]["outcome"]) == ("replaced", "done")
    assert changes[6]["outcome"] == "elapsed"
    assert (changes[0]["address"], changes[5]["address"]) == ("127.0.0.1", "1.1.1.1")
    assert all(line["time"].startswith("20") and line["level"] for line in lines)


async def test_changes_may_be_left_out_of_the_log(tmp_path: Path) -> None:
    async with Process(tmp_path / "jobs.db") as server:
        async with aiohttp.ClientSession(server.url) as session:
            await session.post("/api/jobs", json={"connid": "a", "time": 60})
        await server.terminate()
    assert server.log == ""


def test_what_clients_wrote_cannot_make_a_line_of_its_own() -> None:
    change = AuditRecord(
        at=0,
        event="killed",
        room="main",
        connid='a"\u2028b',
        run="r",
        by="ana",
        via="http",
        reason="\n2026-01-01 ERROR forged\x1b[31m\x85\x9b31m\u2029",
    )
    for write in (json_line, text_line):
        line = write(change)
        assert line.splitlines(keepends=True) == [line] and line.endswith("\n")
        assert not {"\x1b", "\x9b"} & set(line)
    assert json.loads(json_line(change))["reason"] == change.reason


async def test_the_log_says_that_a_dyno_forgets(tmp_path: Path) -> None:
    async with Process(tmp_path / "jobs.db", DYNO="web.1") as server:
        await server.terminate()
    assert "REDIS_URL" in server.log


async def test_the_server_says_when_it_may_open_too_few_files(tmp_path: Path) -> None:
    async with Process(tmp_path / "jobs.db", MAX_CONNECTIONS="999999999") as server:
        await server.terminate()
    assert "MAX_CONNECTIONS" in server.log


async def test_commands_without_a_connection_are_told_without_an_address(serve: Serve) -> None:
    told: list[AuditRecord] = []
    app = await serve(on_change=told.append)
    await command(app, "request", connid="a", time=60)
    assert [(change.event, change.address) for change in told] == [("started", None)]
