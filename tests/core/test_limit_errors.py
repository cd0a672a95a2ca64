"""Every limit says, when it is reached, by which setting it is set and to what."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.conftest import Connect, Serve
from tests.support.clients import HttpClient
from tests.support.servers import command
from tests.support.tokens import SECRET

RUNNING = [("request", {"connid": "b", "time": 60})]
REPORT = {"connid": "a", "run": "1"}

LIMITS: list[tuple[dict[str, Any], list[tuple[str, dict[str, Any]]], str]] = [
    ({"max_running": 1}, RUNNING, "job limit reached (MAX_RUNNING=1)"),
    ({"max_running_room": 1}, RUNNING, "job limit of the room reached (MAX_RUNNING_ROOM=1)"),
    (
        {"max_rooms": 1},
        [("request", {"room": "ops", **RUNNING[0][1]})],
        "room limit reached (MAX_ROOMS=1)",
    ),
    (
        {"max_time": 60},
        [("request", {"connid": "b", "time": 61})],
        "at most 60 (MAX_TIME)",
    ),
    (
        {"max_note": 5},
        [("kill", {"connid": "a", "reason": "too long"})],
        "at most 5 characters (MAX_NOTE)",
    ),
    (
        {"max_result": 5},
        [("finish", {**REPORT, "result": "too long"})],
        "at most 5 bytes (MAX_RESULT)",
    ),
    (
        {"max_depth": 1},
        [("finish", {**REPORT, "result": [[1]]})],
        "1 levels (MAX_DEPTH)",
    ),
]


@pytest.mark.parametrize(("settings", "commands", "words"), LIMITS, ids=lambda each: str(each)[:20])
async def test_a_limit_of_commands_is_named(
    serve: Serve, settings: dict[str, Any], commands: list[tuple[str, dict[str, Any]]], words: str
) -> None:
    app = await serve(**settings)
    assert (await command(app, "request", connid="a", time=60))["ok"]
    for name, payload in commands:
        answer = await command(app, name, **payload)
    assert words in answer["error"]["message"]


async def test_the_length_of_the_write_queue_is_named(serve: Serve) -> None:
    app = await serve(max_pending=1)
    starts = (command(app, "request", connid=str(number), time=60) for number in range(5))
    refused = [answer for answer in await asyncio.gather(*starts) if not answer["ok"]]
    assert refused
    for answer in refused:
        assert answer["error"]["code"] == "unavailable"
        assert answer["error"]["message"] == "write queue full (MAX_PENDING=1): try again"


async def test_limits_of_a_client_are_named(serve: Serve, connect: Connect) -> None:
    app = await serve(rate_limit=4, max_joined=1, max_message=300)
    client = await connect(app.url)
    joined = await client.command("join", {"room": "ops"})
    assert joined["error"]["message"] == "join limit reached (MAX_JOINED=1): leave one first"
    long = await client.command("output", {**REPORT, "text": "x" * 300})
    assert long["error"]["message"] == "message too long (MAX_MESSAGE=300 bytes)"
    answers = [await client.command("status") for _ in range(20)]
    messages = [answer["error"]["message"] for answer in answers if not answer["ok"]]
    assert messages[0].startswith("rate limit exceeded (RATE_LIMIT=4 commands a second)")


async def test_limits_of_an_address_are_named(serve: Serve, connect: Connect) -> None:
    app = await serve(max_connections_address=1, connect_rate=2)
    await (await connect(app.url, "websocket")).command("status")
    messages = []
    async with aiohttp.ClientSession(app.url) as session:
        for _ in range(8):
            async with session.get("/ws") as response:
                if response.status == 429:
                    messages.append((await response.json())["error"]["message"])
    assert "connection limit reached (MAX_CONNECTIONS_ADDRESS=1): close one first" in messages
    assert messages[-1].startswith("rate limit exceeded (CONNECT_RATE=2 connects a second")


async def test_limits_of_sign_ins_are_named(serve: Serve, connect: Connect) -> None:
    app = await serve(auth_secret=SECRET, failure_limit=1, max_token=500)
    guesser = await connect(app.url, "http", token="x" * 501)
    assert isinstance(guesser, HttpClient)
    first, second = [await guesser.command("status") for _ in range(2)]
    assert first["error"]["message"] == "token too long (MAX_TOKEN=500 bytes)"
    assert second["error"]["message"].startswith(
        "rate limit exceeded (FAILURE_LIMIT=1 failed sign-ins a minute from one address)"
    )
