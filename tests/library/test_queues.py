"""Queues with their real workers: a kill stops the task, which is never begun again."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import rq
from celery import Celery
from redis import Redis

from server.app import App
from tests.support import redis
from tests.support.programs import ended, shown, stopped
from tests.support.servers import ROOT, command

pytestmark = [pytest.mark.redis, pytest.mark.slow]


TASKS = Path(__file__).parent
PATIENCE = 60


@asynccontextmanager
async def worker(app: App, *argv: str, **environ: str) -> AsyncIterator[None]:
    """A worker, until the block is left."""
    path = f"{ROOT / 'client'}:{TASKS}"
    told = {"HOURGLASS_URL": app.url, "HOURGLASS_BY": "eve", "PYTHONPATH": path}
    process = await subprocess.create_subprocess_exec(
        sys.executable,
        "-m",
        *argv,
        env={**os.environ, **told, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def becomes(ask: Any, value: Any) -> None:
    """Wait until a queue answers with a value."""
    async with asyncio.timeout(PATIENCE):
        while (found := await asyncio.to_thread(ask)) != value:
            assert found not in ("SUCCESS", "FAILURE", "finished", "failed"), found
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("pool", "task"), [("prefork", "acks_late"), ("prefork", "autoretry"), ("threads", "steps")]
)
async def test_a_killed_task_of_celery_is_revoked_and_begun_once(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: str, task: str
) -> None:
    environ = {"BROKER": redis.shared().url, "QUEUE": secrets.token_hex(6)}
    client = Celery("tasks", broker=environ["BROKER"], backend=environ["BROKER"])
    start = ("celery", "-A", "tasks_celery", "worker", "--pool", pool, "--concurrency", "1")
    begun = tmp_path / "begun"

    def send(name: str, value: Any) -> Any:
        return client.send_task(f"tasks_celery.{name}", args=[value], queue=environ["QUEUE"])

    async with worker(app, *start, "--without-gossip", "--without-mingle", **environ):
        sent = await asyncio.to_thread(send, task, str(begun))
        await shown(app, f"tasks_celery.{task}")
        await command(app, "kill", connid=f"tasks_celery.{task}", reason="enough")
        await becomes(lambda: sent.state, "REVOKED")
        await stopped(app, f"tasks_celery.{task}")
        after = await asyncio.to_thread(send, "quick", 4)
        assert await asyncio.to_thread(after.get, PATIENCE) == 8
        assert begun.read_text() == "begun\n"
        assert (await ended(app, "tasks_celery.quick"))["outcome"] == "done"
    client.close()


@pytest.mark.parametrize("kind", ["ShownWorker", "ShownSimpleWorker"])
async def test_a_killed_job_of_rq_is_stopped_and_not_retried(
    app: App, tmp_path: Path, kind: str
) -> None:
    with Redis.from_url(redis.shared().url) as connection:
        queue = rq.Queue(secrets.token_hex(6), connection=connection)
        start = ("rq.cli", "worker", "--url", redis.shared().url)
        begun = tmp_path / "begun"
        name = f"hourglass.queues.rq.{kind}"
        async with worker(app, *start, "--worker-class", name, queue.name):
            sent = queue.enqueue("tasks_rq.work", str(begun), retry=rq.Retry(max=3), job_timeout=50)
            assert (await shown(app, "tasks_rq.work"))["tasks_rq.work"]["time"] < 51
            await command(app, "kill", connid="tasks_rq.work", reason="enough")
            await becomes(lambda: sent.get_status(refresh=True).value, "stopped")
            await stopped(app, "tasks_rq.work")
            after = queue.enqueue("tasks_rq.quick", 4)
            async with asyncio.timeout(PATIENCE):
                while after.return_value(refresh=True) != 8:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert begun.read_text() == "begun\n"
            assert (await ended(app, "tasks_rq.quick"))["outcome"] == "done"
