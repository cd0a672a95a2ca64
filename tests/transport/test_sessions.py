"""Whose a session of long polling is: its id stands in addresses, which proxies log."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from server.app import App
from tests.conftest import Connect, Serve
from tests.support.clients import PATIENCE
from tests.support.servers import command
from tests.support.tokens import SECRET, token

POLL = "/socket.io/?EIO=4&transport=polling"
HERE, ELSEWHERE = "1.1.1.1", "2.2.2.2"
NAMED = ("&sid={}", "&sid=&sid={}", "&sid=other&sid={}", "&sid={}&sid=other", "&%73%69d={}")
"""How a request may name a session."""


class Poller:
    """A client of long polling, by hand."""

    def __init__(self, session: aiohttp.ClientSession, **headers: str) -> None:
        self._session = session
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.path = POLL

    async def open(self, token: str) -> str:
        """Begin a session, and connect; its id."""
        sid: str = json.loads((await self.poll())[1][1:])["sid"]
        self.path = f"{POLL}&sid={sid}"
        assert await self.post(f"40{json.dumps({'token': token, 'rooms': []})}") == 200
        assert (await self.poll())[1].startswith("40{")
        return sid

    async def poll(self) -> tuple[int, str]:
        async with self._session.get(self.path, headers=self.headers) as response:
            assert response.status != 200 or response.headers["Cache-Control"] == "no-store"
            return response.status, await response.text()

    async def post(self, packet: str) -> int:
        async with self._session.post(self.path, data=packet, headers=self.headers) as response:
            return response.status

    async def works(self) -> None:
        """Give a command, and read its answer."""
        assert await self.post('421["status",{}]') == 200
        assert (await self.poll())[1].startswith('431[{"ok":true')


def at(address: str, bearer: str = "") -> dict[str, str]:
    """The headers of who comes from an address, perhaps with a token."""
    return {"X_Forwarded_For": address} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})


@pytest.fixture
async def app(serve: Serve) -> App:
    return await serve(auth_secret=SECRET, trusted_proxies=1)


@pytest.fixture
async def session(app: App) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(app.url, timeout=timeout) as session:
        yield session


async def test_the_id_of_a_session_alone_acts_for_nobody(
    app: App, session: aiohttp.ClientSession
) -> None:
    await command(app, "request", connid="job", time=60)
    owner = Poller(session, **at(HERE))
    sid = await owner.open(token())
    others = [at(ELSEWHERE), {}, at(ELSEWHERE, token(sub="bo")), at("unknown"), at("2001:db8::1")]
    for headers in others:
        thief = Poller(session, **headers)
        for named in NAMED:
            thief.path = POLL + named.format(sid)
            assert (await thief.poll())[0] == 400
            assert await thief.post('421["kill",{"connid":"job"}]') == 400
            where = thief.path.replace("polling", "websocket")
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(where, headers=thief.headers)
            assert refused.value.status == 400
    await owner.works()
    assert list((await app.store.board("main")).running) == ["job"]
    assert app.counts.refusals["session"] >= len(others) * len(NAMED) * 3 - 6


async def test_a_session_moves_with_its_token(session: aiohttp.ClientSession) -> None:
    owner = Poller(session, **at(HERE))
    await owner.open(token())
    owner.headers = {"X-Forwarded-For": ELSEWHERE, "Authorization": f"Bearer {token()}"}
    await owner.works()
    where = owner.path.replace("polling", "websocket")
    async with session.ws_connect(where, headers=owner.headers) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"


async def test_a_session_that_began_with_a_token_needs_it(session: aiohttp.ClientSession) -> None:
    owner = Poller(session, **at(HERE, token()))
    sid = await owner.open(token())
    for headers in (at(HERE), at(HERE, token(sub="bo")), at(HERE, "x")):
        thief = Poller(session, **headers)
        thief.path = f"{POLL}&sid={sid}"
        assert (await thief.poll())[0] == 400
        assert await thief.post("41") == 400
    await owner.works()


async def test_an_ipv6_network_is_one_address(session: aiohttp.ClientSession) -> None:
    owner = Poller(session, **at("2001:db8:0:1::1"))
    await owner.open(token())
    owner.headers = {"X-Forwarded-For": "[2001:db8:0:1:2:3:4:5]:5000"}
    await owner.works()


async def test_sessions_may_be_left_unbound(serve: Serve) -> None:
    app = await serve(auth_secret=SECRET, trusted_proxies=1, bind_sessions=False)
    async with aiohttp.ClientSession(app.url) as session:
        owner = Poller(session, **at(HERE))
        await owner.open(token())
        owner.headers = {"X-Forwarded-For": ELSEWHERE}
        await owner.works()


async def test_no_id_of_a_session_is_logged(
    app: App, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    owner = Poller(session, **at(HERE))
    sid = await owner.open(token())
    for what in ("transport=websocket", "transport=new", "transport=polling&j=x"):
        async with session.get(f"/socket.io/?{what}&sid={sid}", headers=owner.headers) as response:
            assert response.status == 400
    assert "a request was refused" in caplog.text
    assert sid not in caplog.text
    await Poller(session, **at(ELSEWHERE)).poll()


async def test_real_clients_poll_as_before(
    app: App, connect: Connect, session: aiohttp.ClientSession
) -> None:
    client: Any = await connect(app.url, "polling", token=token(), rooms=[])
    assert (await client.command("status"))["ok"]
