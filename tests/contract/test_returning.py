"""Clients of every language come back by themselves, and are told what they have missed."""

from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Serve
from tests.support.examples import skip_without
from tests.support.load import free_port
from tests.support.returning import NEEDS, all_print, built, running
from tests.support.servers import Clock, Process, command
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.elsewhere
TRANSPORTS = ["websocket", "polling"]


@pytest.fixture
async def programs() -> None:
    skip_without(NEEDS)
    await built()


async def start(url: str, connid: str) -> None:
    """Start a job through a server that wants a token."""
    headers = {"Authorization": f"Bearer {token()}"}
    body = {"connid": connid, "time": 600}
    async with (
        aiohttp.ClientSession(url, headers=headers) as session,
        session.post("/api/jobs", json=body) as response,
    ):
        assert response.status == 201


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_clients_of_all_languages_come_back_after_a_restart(
    tmp_path: Path, transport: str
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(token())
    server = Process(tmp_path / "jobs.db", AUTH_SECRET=SECRET)
    server.port = free_port()
    async with server, running(server.url, transport, token_file) as clients:
        await all_print(clients, "snapshot")
        await start(server.url, "before")
        await all_print(clients, "started before")
        await server.terminate()
        async with Process(server.database, AUTH_SECRET=SECRET) as elsewhere:
            for number in range(20):
                await start(elsewhere.url, f"meanwhile {number}")
            await elsewhere.terminate()
        await server.start()
        await all_print(clients, "started meanwhile 19")
        await start(server.url, "after")
        await all_print(clients, "started after")
        missed = [f"started meanwhile {number}" for number in range(20)]
        told = ["snapshot", "started before", *missed, "started after"]
        for name, client in clients.items():
            # The sync client of Python hears each event in a thread of its own.
            ordered = sorted if name == "sync" else list
            assert ordered(client.lines) == ordered(told), name


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_clients_of_all_languages_come_back_with_a_newer_token(
    serve: Serve, tmp_path: Path, transport: str
) -> None:
    clock = Clock()
    app = await serve(auth_secret=SECRET, now=clock)
    token_file = tmp_path / "token"
    token_file.write_text(token(exp=clock.now + 60))
    async with running(app.url, transport, token_file) as clients:
        await all_print(clients, "snapshot")
        token_file.write_text(token())
        clock.now += 60
        await all_print(clients, "closing unauthorized")
        del clients["rust"]  # It says the same each time that it connects, and is refused.
        assert (await command(app, "request", connid="later", time=600))["ok"]
        await all_print(clients, "started later")
        for name, client in clients.items():
            assert client.lines == ["snapshot", "closing unauthorized", "started later"], name
