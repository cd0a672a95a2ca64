"""Who is let in, what they may do, and when they have to go, through each of the doors."""

import asyncio
import base64
import hmac
import json
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import socketio

from server.access.auth import Expiries, Identity, opens
from server.app import App
from server.config import Config, ConfigError
from server.contract.messages import COMMANDS
from tests.conftest import Connect, Serve
from tests.support.clients import (
    CLIENTS,
    PATIENCE,
    HttpClient,
    NodeClient,
    PlainClient,
    PythonClient,
)
from tests.support.forge import fork
from tests.support.servers import Clock, Process, command, eventually
from tests.support.tokens import BAD, CLAIMS, SECRET, part, token

OTHER = "another secret of the tests that comes later"
WATCHING = {"status", "join", "leave", "history", "rooms"}
HEARING = [kind for kind in CLIENTS if CLIENTS[kind].hears]
PAYLOADS: dict[str, dict[str, Any]] = {
    "request": {"connid": "new", "time": 60},
    "kill": {"connid": "nothing"},
    "extend": {"connid": "nothing", "time": 60},
    "status": {},
    "finish": {"connid": "nothing", "run": "r"},
    "progress": {"connid": "nothing", "run": "r"},
    "stopped": {"connid": "nothing", "run": "r"},
    "output": {"connid": "nothing", "run": "r", "text": "t"},
    "join": {},
    "leave": {},
    "history": {},
    "rooms": {},
}


@pytest.fixture
async def app(serve: Serve) -> App:
    return await serve(auth_secret=SECRET, rate_limit=0)


def code(answer: dict[str, Any]) -> str | None:
    return None if answer["ok"] else answer["error"]["code"]


async def refused(url: str, kind: str, bad: str, connect: Connect) -> str | None:
    """The code with which a door refuses a token; None where it lets the client in."""
    hello = {"token": bad, "rooms": ["main"]}
    try:
        client = await connect(url, kind, **hello)
    except socketio.exceptions.ConnectionError as error:
        told: Any = error.args[0]
        return told["data"]["code"] if "data" in told else told["connect_error"]
    except aiohttp.WSServerHandshakeError as error:
        return {401: "unauthorized", 403: "forbidden"}.get(error.status, str(error))
    return code(await client.command("status"))


@pytest.mark.parametrize("kind", CLIENTS)
async def test_no_bad_token_is_let_in_anywhere(app: App, connect: Connect, kind: str) -> None:
    assert await refused(app.url, kind, token(), connect) is None
    for what, bad in BAD.items():
        if kind == "node" and what == "name of half a character":
            continue  # Its JSON has no such text.
        assert await refused(app.url, kind, bad, connect) == "unauthorized", what
    assert app.rooms.clients == (kind != "http")


IGNORED: dict[str, dict[str, Any]] = {
    "aud": {"aud": "another service"},
    "auds": {"aud": ["one", "another"]},
    "iss": {"iss": 7},
    "iat ahead": {"iat": 4_000_000_000},
    "iat of text": {"iat": "yesterday"},
    "jti of a number": {"jti": 12},
    "own": {"scope": {"a": [1]}, "name": "eve"},
    "null": dict.fromkeys(("nbf", "aud", "iat", "jti", "kid")),
}
"""Claims that other services need, by what is odd about them."""


@pytest.mark.parametrize("kind", CLIENTS)
async def test_all_other_claims_are_ignored(app: App, connect: Connect, kind: str) -> None:
    for what, claims in IGNORED.items():
        made = jws({**CLAIMS, **claims}, {})
        assert await refused(app.url, kind, made, connect) is None, what
    for header in ({"kid": 7}, {"kid": None}, {"kid": "k1"}, {"typ": 1}, {"jku": "nowhere"}):
        made = jws(CLAIMS, header)
        assert await refused(app.url, kind, made, connect) is None, header


def jws(claims: dict[str, Any], header: dict[str, Any]) -> str:
    """What is signed under a header that PyJWT would not make."""
    signed = f"{part({'alg': 'HS256', **header})}.{part(claims)}"
    digest = hmac.digest(SECRET.encode(), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


async def test_a_role_and_rooms_of_null_are_left_out(app: App, connect: Connect) -> None:
    client = await connect(app.url, "http", token=jwt.encode({**CLAIMS, "role": None}, SECRET))
    assert code(await client.command("status")) is None
    assert code(await client.command("request", PAYLOADS["request"])) == "forbidden"
    client = await connect(app.url, "http", token=jwt.encode({**CLAIMS, "rooms": None}, SECRET))
    assert code(await client.command("status")) == "forbidden"


async def test_a_token_of_a_clock_that_is_ahead_is_taken(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    app = await serve(auth_secret=SECRET, token_leeway=5, now=clock)
    for ahead, expected in ((-60, None), (0, None), (4.5, None), (5.5, "unauthorized")):
        made = token(nbf=clock.now + ahead, iat=clock.now + ahead)
        assert await refused(app.url, "http", made, connect) == expected, ahead


@pytest.mark.parametrize("role", ["viewer", "operator"])
@pytest.mark.parametrize("kind", CLIENTS)
async def test_each_command_needs_its_role_and_its_room(
    app: App, connect: Connect, kind: str, role: str
) -> None:
    rooms = {"ops": True, "team-7": True, "main": False, "team": False, "opsy": False}
    client = await connect(
        app.url, kind, token=token(role=role, rooms=["ops", "team-*"]), rooms=["ops"]
    )
    for name in COMMANDS:
        if kind == "http" and name in ("join", "leave"):
            continue
        for room, open_to_it in rooms.items():
            answer = await client.command(name, {**PAYLOADS[name], "room": room})
            allowed = open_to_it and (role == "operator" or name in WATCHING)
            expected = (None, "not_running") if allowed else ("forbidden",)
            assert code(answer) in expected, (name, room, answer)
    running = {"ops": 1, "team-7": 1} if role == "operator" else {}
    assert await app.store.counts() == running


@pytest.mark.parametrize("kind", HEARING)
async def test_nobody_is_let_into_a_room_that_the_token_does_not_open(
    app: App, connect: Connect, kind: str
) -> None:
    hello = {"token": token(rooms=["ops"]), "rooms": ["ops", "main"]}
    with pytest.raises(Exception, match=r"main|403"):
        await connect(app.url, kind, **hello)


async def test_a_token_without_rooms_or_role_opens_nothing(app: App, connect: Connect) -> None:
    client = await connect(app.url, "http", token=token(rooms=None))
    assert code(await client.command("status")) == "forbidden"
    client = await connect(app.url, "http", token=token(role=None))
    assert code(await client.command("status")) is None
    assert code(await client.command("request", PAYLOADS["request"])) == "forbidden"


async def test_only_rooms_that_a_token_opens_are_listed(app: App, connect: Connect) -> None:
    for room in ("ops-1", "main"):
        await command(app, "request", connid="a", time=60, room=room)
    client = await connect(app.url, "http", token=token(rooms=["ops-*"]))
    answer = await client.command("rooms", {"room": "ops-1"})
    assert answer["rooms"] == [{"room": "ops-1", "running": 1}]


async def test_a_name_cannot_be_claimed_beside_a_token(app: App, connect: Connect) -> None:
    for kind in CLIENTS:
        client = await connect(app.url, kind, token=token(), name="eve")
        answer = await client.command("request", {"connid": kind, "time": 60})
        assert answer["job"]["by"] == "ana"


@pytest.mark.parametrize("transport", ["websocket", "polling", "/ws"])
async def test_a_client_of_another_room_hears_nothing_at_any_moment(
    app: App, transport: str
) -> None:
    """Events of a room rain down while clients that may not hear them connect, and are refused."""
    stop = asyncio.Event()

    async def rain() -> None:
        while not stop.is_set():
            await command(app, "request", connid="secret", time=60, if_running="replace")

    raining = asyncio.create_task(rain())
    try:
        heard = []
        for round in range(20):
            rooms = ["ops"] if round % 2 else ["main"]
            heard += await everything_heard(app.url, transport, token(rooms=["ops"]), rooms)
    finally:
        stop.set()
        await raining
    assert len(heard) >= 20
    assert not [text for text in heard if "secret" in text]


async def everything_heard(url: str, transport: str, token: str, rooms: list[str]) -> list[str]:
    """Connect, ask for a status, and give all that came up to its answer or the refusal."""
    hello = json.dumps({"token": token, "rooms": rooms})
    async with aiohttp.ClientSession(url) as session:
        if transport == "/ws":
            path = f"/ws?rooms={','.join(rooms)}&token={token}"
            try:
                async with session.ws_connect(path) as socket:
                    await socket.send_str('{"route":"status","room":"ops","id":"last"}')
                    return await until(socket.receive_str, '"id":"last"')
            except aiohttp.WSServerHandshakeError as refusal:
                return [f"{refusal.status} {refusal.message}"]
        if transport == "websocket":
            async with session.ws_connect("/socket.io/?EIO=4&transport=websocket") as socket:
                await socket.receive_str()
                await socket.send_str("40" + hello)
                await socket.send_str('421["status",{"room":"ops"}]')
                return await until(socket.receive_str, "44" if rooms == ["main"] else "431[")
        path = "/socket.io/?EIO=4&transport=polling"
        opened = await (await session.get(path)).text()
        path += f"&sid={json.loads(opened[1:])['sid']}"
        await session.post(path, data=f'40{hello}\x1e421["status",{{"room":"ops"}}]')

        async def poll() -> str:
            return await (await session.get(path)).text()

        return await until(poll, "44" if rooms == ["main"] else "431[")


async def until(receive: Any, last: str) -> list[str]:
    heard: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while not heard or last not in heard[-1]:
            heard.append(await receive())
    return heard


@pytest.mark.parametrize("kind", HEARING)
async def test_a_token_that_runs_out_ends_the_connection_with_a_reason(
    serve: Serve, connect: Connect, kind: str
) -> None:
    clock = Clock()
    app = await serve(auth_secret=SECRET, now=clock)
    client = await connect(app.url, kind, token=token(exp=clock.now + 60))
    other = await connect(app.url, kind, token=token(exp=clock.now + 120, sub="bo"))
    assert (await client.command("status"))["ok"]
    clock.now += 60
    closing = await client.event("closing")
    assert closing == {"code": "unauthorized", "message": "token expired (exp)"}
    await eventually(lambda: app.rooms.clients == 1)
    assert (await other.command("status"))["ok"]
    if isinstance(client, PlainClient):
        await eventually(lambda: client.socket.close_code == 1008)
    if isinstance(client, PythonClient):
        await eventually(lambda: not client.sio.connected)
    clock.now += 60
    assert await other.event("closing") == closing
    await eventually(lambda: app.rooms.clients == 0)


def test_each_token_that_has_run_out_is_told_once() -> None:
    expiries: Expiries[str] = Expiries()
    for key, at in {"late": 3.0, "soon": 1.0, "later": 4.0, "with the late": 3.0}.items():
        expiries.add(key, Identity("ana", expires_at=at))
    expiries.add("for good", Identity("ana"))
    expiries.discard("later")
    expiries.discard("never there")
    assert expiries.take(0.9) == []
    assert expiries.take(1.0) == ["soon"]
    assert expiries.take(2.9) == []
    assert sorted(expiries.take(9.0)) == ["late", "with the late"]
    expiries.add("new", Identity("ana", expires_at=10.0))
    assert expiries.take(9.9) == []
    assert expiries.take(10.0) == ["new"]


async def test_a_browser_s_client_tries_again_with_its_token_and_is_told_no(
    serve: Serve, connect: Connect
) -> None:
    clock = Clock()
    app = await serve(auth_secret=SECRET, now=clock)
    client = await connect(app.url, "node", token=token(exp=clock.now + 60))
    assert isinstance(client, NodeClient)
    clock.now += 60
    async with asyncio.timeout(PATIENCE):
        refusal = await client.refusals.get()
    assert refusal["data"]["code"] == "unauthorized"
    assert "expired" in refusal["connect_error"]


async def test_http_needs_a_token_that_has_not_run_out(serve: Serve, connect: Connect) -> None:
    clock = Clock()
    app = await serve(auth_secret=SECRET, now=clock)
    client = await connect(app.url, "http", token=token(exp=clock.now + 60))
    assert (await client.command("status"))["ok"]
    clock.now += 60
    assert code(await client.command("status")) == "unauthorized"
    assert isinstance(client, HttpClient)
    assert client.status == 401


async def test_a_secret_is_changed_without_locking_anybody_out(
    serve: Serve, connect: Connect
) -> None:
    old, both, new = SECRET, f"{OTHER}, {SECRET}", OTHER
    for secrets, signed_by, lets_in in [
        (old, SECRET, True),
        (both, SECRET, True),
        (both, OTHER, True),
        (new, SECRET, False),
        (new, OTHER, True),
    ]:
        app = await serve(auth_secret=secrets)
        client = await connect(app.url, "http", token=token(signed_by))
        assert (await client.command("status"))["ok"] is lets_in


@pytest.mark.parametrize("kind", CLIENTS)
async def test_only_its_owner_reports_of_a_job(app: App, connect: Connect, kind: str) -> None:
    ana = await connect(app.url, kind, token=token())
    bo = await connect(app.url, kind, token=token(sub="bo"))
    job = (await ana.command("request", {"connid": "a", "time": 60}))["job"]
    mine = {"connid": "a", "run": job["run"]}
    for name in ("progress", "finish"):
        answer = await bo.command(name, mine)
        assert (code(answer), "ana" in answer["error"]["message"]) == ("forbidden", True)
    assert (await ana.command("progress", {**mine, "done": 0.5}))["ok"]
    assert (await bo.command("kill", {"connid": "a"}))["ok"]
    assert code(await bo.command("stopped", mine)) == "forbidden"
    assert code(await bo.command("stopped", {**mine, "run": "another"})) == "not_running"
    assert (await ana.command("stopped", mine))["job"]["stopped_at"] is not None
    job = (await ana.command("request", {"connid": "a", "time": 60}))["job"]
    assert (await ana.command("finish", {"connid": "a", "run": job["run"]}))["ok"]
    assert code(await bo.command("finish", {"connid": "a", "run": job["run"]})) == "not_running"


async def test_without_a_secret_a_name_proves_nothing(serve: Serve, connect: Connect) -> None:
    app = await serve()
    ana, bo = await connect(app.url, name="ana"), await connect(app.url, name="bo")
    job = (await ana.command("request", {"connid": "a", "time": 60}))["job"]
    assert (await bo.command("finish", {"connid": "a", "run": job["run"]}))["ok"]


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("main", ["main"], ["mains", "Main"]),
        ("*", ["main", "a.b"], []),
        ("ops-*", ["ops-", "ops-1", "ops-a-b"], ["ops", "xops-1"]),
        ("*-prod", ["db-prod", "-prod"], ["prod", "db-prod2"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("a*b*c", ["abc", "axbxc", "abbc"], ["acb", "ab", "axc"]),
        ("a*bc*c", ["abcc", "abcbcc"], ["abc"]),
        ("**", ["main"], []),
        ("a.c", ["a.c"], ["abc"]),
    ],
)
def test_patterns_of_rooms(pattern: str, fits: list[str], does_not: list[str]) -> None:
    assert [room for room in fits + does_not if opens((pattern,), room)] == fits


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_others_are_served_with_tokens_or_when_it_is_said_out_loud(host: str) -> None:
    with pytest.raises(ConfigError, match=r"AUTH_SECRET.*AUTH=open"):
        Config(host=host)
    Config(host=host, auth="open")
    Config(host=host, auth_secret=SECRET)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_secret(host: str) -> None:
    Config(host=host)


@pytest.mark.parametrize(
    "settings",
    [
        {"auth_secret": SECRET, "auth": "open"},
        {"auth": "closed"},
        {"auth_secret": f"{SECRET},short"},
        {"auth_secret": " , "},
        {"trusted_proxies": 1},
    ],
    ids=repr,
)
def test_settings_of_who_is_let_in_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="AUTH"):
        Config(**settings)


async def test_a_server_for_everyone_does_not_start_by_mistake(tmp_path: Path) -> None:
    server = Process(tmp_path / "jobs.db", HOST="0.0.0.0")
    assert await server.fail() == 2
    assert "AUTH_SECRET" in server.log and "AUTH=open" in server.log
    assert not server.database.exists()


@pytest.mark.slow
async def test_the_command_line_makes_tokens(serve: Serve, connect: Connect) -> None:
    app = await serve(auth_secret=f"{OTHER},{SECRET}")
    flags = "--name ana --role operator --room ops-* --room main --days 30"
    code, printed = await run_token(flags, f"{OTHER},{SECRET}")
    assert code == 0
    client = await connect(app.url, "http", token=printed.strip())
    for room, ok in [("ops-1", True), ("main", True), ("other", False)]:
        answer = await client.command("request", {"connid": "a", "time": 1, "room": room})
        assert answer["ok"] is ok
    code, printed = await run_token("--name bo", OTHER)
    client = await connect(app.url, "http", token=printed.strip())
    assert (await client.command("status"))["ok"]
    assert not (await client.command("request", {"connid": "b", "time": 1}))["ok"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "secret", "message"),
    [
        ("--name ana", "", "AUTH_SECRET"),
        ("--name ana", "short", "32 bytes"),
        ("--name ana --days 0", SECRET, "--days"),
        ("--name ana --days nan", SECRET, "--days"),
        ("--name ana --role king", SECRET, "viewer"),
        ("--name ana --room a/b", SECRET, "rooms"),
        ("", SECRET, "--name"),
    ],
)
async def test_the_command_line_says_why_it_makes_no_token(
    flags: str, secret: str, message: str
) -> None:
    code, printed = await run_token(flags, secret)
    assert code == 2
    assert message in printed


async def run_token(flags: str, secret: str) -> tuple[int, str]:
    process = await fork({"AUTH_SECRET": secret}, "token", *flags.split())
    async with asyncio.timeout(PATIENCE):
        printed = await process.stdout.read() + await process.stderr.read()
        return await process.wait(), printed.decode()


def test_the_payloads_above_are_of_every_command() -> None:
    assert set(PAYLOADS) == set(COMMANDS)
