"""What is deployed runs as a platform runs it, and the documents about it are true."""

import asyncio
import configparser
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.app import App
from server.audit import AuditRecord
from server.config import Config
from tests.conftest import ON_REDIS, Connect, Serve
from tests.support import redis
from tests.support.clients import PATIENCE, NodeClient
from tests.support.load import free_port
from tests.support.servers import ROOT
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.slow

DEPLOY = (ROOT / "docs/deploy.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PLATFORM_LIMIT = 10
"""Seconds that a platform waits after SIGTERM."""


def block(language: str) -> str:
    """The first block of docs/deploy.md in a language."""
    found = re.search(rf"```{language}\n(.*?)```", DEPLOY, re.S)
    assert found is not None
    return found[1]


def procfile() -> str:
    (line,) = (ROOT / "Procfile").read_text().splitlines()
    name, _, command = line.partition(": ")
    assert name == "web"
    return command


@asynccontextmanager
async def running(command: str, folder: Path, **environ: str) -> AsyncIterator[Any]:
    """A command line run in a shell, until it answers `/readyz`, as a platform does."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_shell(
        f"exec {command}",
        cwd=ROOT,
        env={"PATH": path, "DATABASE": str(folder / "jobs.db"), **environ},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while True:
                try:
                    url = f"http://127.0.0.1:{environ['PORT']}/readyz"
                    async with session.get(url) as response:
                        if response.status == 200:
                            break
                except aiohttp.ClientError:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("where", ["file", ON_REDIS])
async def test_the_procfile_runs_as_a_platform_runs_it(
    tmp_path: Path, connect: Connect, where: str
) -> None:
    port = free_port()
    environ = {"PORT": str(port), "AUTH_SECRET": SECRET, "TRUSTED_PROXIES": "1"}
    if where == "redis":
        environ["REDIS_URL"] = redis.shared().url
        environ["REDIS_PREFIX"] = f"deploy-{port}"
    url = f"http://127.0.0.1:{port}"
    async with running(procfile(), tmp_path, **environ) as process:
        client = await connect(url, "node", token=token())
        assert isinstance(client, NodeClient)
        job = (await client.command("request", {"connid": "a", "time": 600}))["job"]
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PLATFORM_LIMIT) == 0
    async with running(procfile(), tmp_path, **environ) as process:
        await client.until(lambda events: client.connections == 2)
        answer = await client.command("status")
        assert [found["run"] for found in answer["jobs"]] == [job["run"]]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PLATFORM_LIMIT) == 0


async def test_the_procfile_does_not_serve_everyone_by_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        async with running(procfile(), tmp_path, PORT=str(free_port())):
            pass


def test_app_json_sets_what_there_is() -> None:
    manifest = json.loads((ROOT / "app.json").read_text())
    environ = {name: item.get("value", SECRET) for name, item in manifest["env"].items()}
    assert manifest["env"]["AUTH_SECRET"]["generator"] == "secret"
    config = Config.from_env(environ, host="0.0.0.0")
    assert (config.trusted_proxies, config.redis_tls_verify) == (1, False)
    assert {name.lower() for name in environ} <= set(Config.__dataclass_fields__)


async def test_the_image_runs_and_is_healthy(tmp_path: Path) -> None:
    environ = dict(re.findall(r"^(?:ENV|   ) (?:PYTHON\w+=\S+ )?([A-Z]+)=(\S+)", DOCKERFILE, re.M))
    environ |= {"PORT": str(free_port()), "DATABASE": str(tmp_path / "jobs.db")}
    assert environ["HOST"] == "0.0.0.0"
    check, command = (json.loads(line) for line in re.findall(r"CMD (\[.*\])$", DOCKERFILE, re.M))
    assert not await succeeds(check, environ)
    environ["AUTH_SECRET"] = SECRET
    async with running(" ".join(command), tmp_path, **environ):
        assert await succeeds(check, environ)
    assert "\nUSER hourglass\n" in DOCKERFILE
    kept = (ROOT / ".dockerignore").read_text()
    for copied in re.findall(r"^COPY (\S+)", DOCKERFILE, re.M):
        assert f"!{copied}\n" in kept and (ROOT / copied).exists()


async def succeeds(command: list[str], environ: dict[str, str]) -> bool:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command[1:], env=environ, stderr=asyncio.subprocess.DEVNULL
    )
    return await asyncio.wait_for(process.wait(), PATIENCE) == 0


def test_the_python_of_the_platform_is_that_of_the_image() -> None:
    version = (ROOT / ".python-version").read_text().strip()
    assert f"FROM python:{version}-slim" in DOCKERFILE


def test_the_systemd_unit_can_be_read() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read_string(block("ini"))
    assert unit["Service"]["ExecStart"].endswith("python -m server")
    assert int(unit["Service"]["LimitNOFILE"]) > Config().max_connections


def test_settings_that_the_document_names_exist() -> None:
    named = set(re.findall(r"`?\b([A-Z]+(?:_[A-Z]+)+)(?:=|`)", DEPLOY)) - {"THE_METRICS_TOKEN"}
    assert len(named) > 10
    assert {name.lower() for name in named} <= set(Config.__dataclass_fields__)


async def test_grafana_dashboard_has_every_metric_and_no_other(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    await client.command("request", {"connid": "a", "time": 60})
    await client.command("explode")
    async with aiohttp.ClientSession(app.url) as session, session.get("/metrics") as response:
        text = await response.text()
    shown = set(re.findall(r"^(\w+)[ {]", text, re.M))
    histograms = {f"{name}_bucket" for name in re.findall(r"^# TYPE (\w+) histogram", text, re.M)}
    others = set(re.findall(r"^# TYPE (hourglass_\w+) (?:counter|gauge)", text, re.M))
    dashboard = json.loads((ROOT / "docs/grafana.json").read_text())
    used = set(re.findall(r"\b(?:hourglass|process)_\w+", json.dumps(dashboard["panels"])))
    assert len(used) > 15
    assert used <= shown
    assert histograms | others <= used


@pytest.fixture
async def nginx(serve: Serve, tmp_path: Path) -> AsyncIterator[tuple[str, list[AuditRecord]]]:
    """The address of a server behind nginx as in docs/deploy.md, and what is changed on it."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    told: list[AuditRecord] = []
    app = await serve(auth_secret=SECRET, trusted_proxies=1, on_change=told.append)
    port = free_port()
    site = block("nginx").replace("127.0.0.1:8000", f"127.0.0.1:{app.port}")
    site = site.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    site = re.sub(r" *ssl_\w+ .*\n", "", site)
    paths = "".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}"
        f"http {{ access_log off; {paths} {site} }}"
    )
    command = [program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionError:
                    assert process.returncode is None
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield f"http://127.0.0.1:{port}", told
    finally:
        process.terminate()
        await process.wait()


async def test_clients_come_through_nginx_with_their_addresses(
    nginx: tuple[str, list[AuditRecord]], connect: Connect
) -> None:
    url, told = nginx
    for kind in ("python", "polling", "node", "websocket", "http"):
        client = await connect(url, kind, token=token())
        assert (await client.command("status"))["ok"]
        await client.close()
    async with aiohttp.ClientSession(url) as session:
        async with session.get("/api/jobs", headers={"Origin": url}) as response:
            assert response.status == 401
        async with session.get("/api/jobs", headers={"Origin": "http://evil.example"}) as response:
            assert response.status == 403
        async with session.get("/metrics") as response:
            assert response.status == 403
        headers = {"X-Forwarded-For": "6.6.6.6", "Authorization": f"Bearer {token()}"}
        await session.post("/api/jobs", json={"connid": "a", "time": 60}, headers=headers)
    assert [(change.event, change.address) for change in told] == [("started", "127.0.0.1")]
