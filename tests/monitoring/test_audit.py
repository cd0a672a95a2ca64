"""The audit log: every change that a server makes is recorded once, with who made it."""

from typing import Any

import pytest

from server.access.actor import Actor
from server.audit import AuditRecord
from server.contract.messages import Job
from server.store.interface import StartJob
from tests.conftest import Connect, Serve
from tests.support.servers import eventually

pytestmark = pytest.mark.each_store

ANA = Actor("ana", "http", "192.0.2.7")
JOB: dict[str, Any] = {"run": "1", "room": "main", "time": 60, "started_at": 1.0, "deadline": 61.0}


async def test_a_change_is_recorded_though_nobody_waits_for_it(serve: Serve) -> None:
    records: list[AuditRecord] = []
    app = await serve(on_change=records.append)
    app.store.submit(StartJob(Job(connid="a", by="ana", **JOB), actor=ANA))
    await eventually(lambda: records)
    assert [(record.event, record.by, record.address) for record in records[:1]] == [
        ("started", "ana", "192.0.2.7")
    ]


async def test_each_change_is_recorded_once(serve: Serve, connect: Connect) -> None:
    records: list[AuditRecord] = []
    app = await serve(on_change=records.append)
    client = await connect(app.url, "websocket", name="ana")

    async def give(command: str, **fields: Any) -> dict[str, Any]:
        answer = await client.command(command, {"connid": "a", **fields})
        assert answer["ok"], answer
        return answer.get("job", {})

    await give("request", time=60)
    await give("request", time=60, if_running="keep")
    run = (await give("request", time=60, if_running="replace", key="once"))["run"]
    await give("request", time=60, key="once")
    await give("progress", run=run, done=0.5)
    await give("kill", run=run)
    for _ in range(2):
        await give("stopped", run=run, exit=0)
    run = (await give("request", time=60))["run"]
    await give("finish", run=run)
    await give("request", time=0.1)
    await client.event("finished", outcome="elapsed")
    await eventually(lambda: len(records) == 9)
    assert [(record.event, record.via) for record in records] == [
        ("started", "websocket"),
        ("killed", "websocket"),
        ("started", "websocket"),
        ("killed", "websocket"),
        ("stopped", "websocket"),
        ("started", "websocket"),
        ("finished", "websocket"),
        ("started", "websocket"),
        ("finished", "server"),
    ]


async def test_a_record_that_fails_keeps_nobody_from_an_answer(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(record: AuditRecord) -> None:
        raise RuntimeError("broken")

    app = await serve(on_change=fail)
    client = await connect(app.url)
    assert (await client.command("request", {"connid": "a", "time": 60}))["ok"]
    assert (await client.command("kill", {"connid": "a"}))["ok"]
    assert caplog.text.count("a change could not be recorded") == 2
