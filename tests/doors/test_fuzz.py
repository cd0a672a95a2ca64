"""Generated requests, packets and frames at every door: everything is answered, nothing breaks.

`make soak` makes it HOURGLASS_SOAK_INPUTS in all, a million, and of new random choices.
"""

import asyncio
import gc
import json
import os
import random
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.conftest import Connect, Serve, Tell
from tests.support.clients import PATIENCE, TestClient
from tests.support.servers import ROOT, Process, eventually
from tests.support.soak import SEED, SOAK, rounds
from tests.support.tokens import SECRET, token
from tests.support.wire import REQUEST, masked

pytestmark = pytest.mark.slow

WARM = 20 if SOAK else 2
"""Rounds that warm a door up; memory may not grow in as many more, or in those that follow."""
DOORS = 7
INPUTS = int(os.environ.get("HOURGLASS_SOAK_INPUTS") or 1_000_000) // DOORS
"""Inputs at each door in `make soak`, if there is time for them."""
CONNECTIONS = 30
LONGEST = 60_000
"""Characters of a message that even in UTF-8 is no longer than a frame may be."""
MESSAGES = 40
SLACK = 40_000_000
"""Bytes of garbage that may wait to be collected."""
MOST_LEFT = 500
"""Objects by which those of a process go up and down by themselves."""
RUN = "01a20c768339ceed9fbfb00c"
EVENTS = [
    '["request",{"connid":"a","time":60,"note":"n","lease":5,"if_running":"replace"}]',
    f'["kill",{{"connid":"a","run":"{RUN}","reason":"r"}}]',
    '["status",{"connid":"a","since":{"epoch":"e","seq":1}}]',
    f'["finish",{{"connid":"a","run":"{RUN}","outcome":"done","result":{{"a":[1,2.5,null]}}}}]',
    f'["progress",{{"connid":"a","run":"{RUN}","done":0.5,"note":"n"}}]',
    f'["stopped",{{"connid":"a","run":"{RUN}","exit":0}}]',
    f'["output",{{"connid":"a","run":"{RUN}","text":"t"}}]',
    '["join",{"room":"main","connid":"a","since":{"epoch":"e","seq":1}}]',
    '["leave",{"room":"main"}]',
    '["history",{"connid":"a","before":1,"limit":1}]',
    '["rooms",{}]',
    '["message",{"route":"status"}]',
]
PACKETS = [
    *(f"42{event}" for event in EVENTS),
    *(f"421{event}" for event in EVENTS),
    '40{"rooms":[]}',
    '40/other,{"a":1}',
    "41",
    "43[]",
    '44{"message":"x"}',
    '451-["kill",{"_placeholder":true,"num":0}]',
    '461-1[{"_placeholder":true,"num":0}]',
    "2probe",
    "5",
    "3",
    "6",
    "0{}",
]
SPICES = [
    *("\x00", "\x1e", "²", "٣", "é", "😀", "\u2028", "-", "/", ",", "[", "]", "{", "}", '"', "\\"),
    *("null", "NaN", "1e999", "-1", "9" * 30, "[" * 2000, "\\ud800", "true", '"route":"kill"'),
    *("_placeholder", "__proto__", "disconnect", "connect", "42", "0", " " * 300, "x" * 70_000),
]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Process]:
    """A server process that must not have logged an error when the test ends."""
    environ = {
        "LOG_LEVEL": "ERROR",
        "FAILURE_LIMIT": "0",
        "CONNECT_TIMEOUT": "0.3",
        "PRESENCE_INTERVAL": "0.1",
        "HISTORY": "100",
    }
    async with Process(tmp_path / "jobs.db", **environ) as server:
        yield server
        assert await server.terminate() == 0
    assert server.log == "", f"HOURGLASS_SEED={SEED}\n{server.log[-3000:]}"


def memory(server: Process) -> int:
    """Bytes that a process holds."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) * 1024


async def hold_out(
    server: Process, connect: Connect, attack: Callable[[random.Random], Awaitable[int]]
) -> int:
    """Attack in rounds, in which another is served, and after which no memory is lost.

    `attack` tells how many inputs it gave; returned is how many all did.
    """
    other = await connect(server.url, "python", rooms=["elsewhere"])
    held = inputs = 0
    for number in rounds(2 * WARM, 1_000_000):
        attacks = [attack(random.Random(f"{SEED} {number} {i}")) for i in range(CONNECTIONS)]
        async with asyncio.timeout(120):
            given = asyncio.gather(*attacks)
            await be_served(other, given)
        inputs += sum(await given)
        await nobody_is_left(server)
        if number == WARM - 1:
            held = memory(server)
        if SOAK and number >= 2 * WARM and inputs >= INPUTS:
            break
    assert memory(server) < held + SLACK, f"HOURGLASS_SEED={SEED}"
    return inputs


async def be_served(other: TestClient, meanwhile: asyncio.Future[Any]) -> None:
    """Start and finish jobs of one's own, and hear of them, until the others are done."""
    while True:
        done = meanwhile.done()
        job = {"room": "elsewhere", "connid": "own"}
        started = await other.command("request", {**job, "time": 60})
        assert started["ok"], f"{started} HOURGLASS_SEED={SEED}"
        run = started["job"]["run"]
        finished = await other.command("finish", {**job, "run": run})
        assert finished["ok"], f"{finished} HOURGLASS_SEED={SEED}"
        await other.event("finished", run=run)
        if done:
            return


async def nobody_is_left(server: Process) -> None:
    """Wait until the server holds no connection but the one of `hold_out`."""
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{server.url}/metrics") as response:
                if "hourglass_sessions 1.0" in await response.text():
                    return
            await asyncio.sleep(0.05)


def twisted(text: str, chance: random.Random) -> str:
    """A text with a few changes somewhere."""
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        place = chance.randrange(len(text) + 1)
        end = min(len(text), place + chance.choice((0, 0, 1, 1, 2, 10)))
        text = text[:place] + chance.choice(SPICES) + text[end:]
        if chance.random() < 0.1:
            text = text[: chance.randrange(len(text) + 1)]
    return text


async def test_requests_made_from_the_openapi_document(tmp_path: Path) -> None:
    """All checks there are, among them that nothing is answered without the token."""
    how = ["--max-examples", "1000"] if SOAK else ["--max-examples", "10"]
    how += [] if SOAK else ["--generation-deterministic"]
    generated = "tests.support.generated_requests"
    environ = {"AUTH_SECRET": SECRET, "FAILURE_LIMIT": "0", "LOG_LEVEL": "ERROR"}
    async with Process(tmp_path / "jobs.db", **environ) as server:
        process = await asyncio.create_subprocess_exec(
            *(Path(sys.executable).parent / "schemathesis", "run", f"{server.url}/openapi.json"),
            *("--no-color", "--checks", "all", "--header", f"Authorization:Bearer {token()}"),
            # 1.0 is a whole number to JSON Schema, and none to this server.
            *("--exclude-checks", "positive_data_acceptance", *how),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": generated},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 1800 if SOAK else 280)
        assert process.returncode == 0, output.decode()[-6000:]
        await server.terminate()
    assert server.log == ""


async def test_events_of_any_kind_are_answered(
    server: Process, connect: Connect, tell: Tell
) -> None:
    """What follows `42` and an id is an event, however it is malformed, and has an answer."""

    async def attack(chance: random.Random) -> int:
        path = "/socket.io/?EIO=4&transport=websocket"
        async with (
            aiohttp.ClientSession(server.url) as session,
            session.ws_connect(path, max_msg_size=0) as socket,
        ):
            await socket.receive_str()
            await socket.send_str('40{"rooms":[]}')
            assert (await socket.receive_str()).startswith("40{")
            for number in range(MESSAGES):
                # Digits would be part of the id, and a dash would make it something else.
                event = twisted(chance.choice(EVENTS), chance).lstrip("0123456789²٣-")
                await socket.send_str(f"42{number}{event or '['}")
                await answered(socket, f"43{number}[", event)
        return MESSAGES

    tell(f"{await hold_out(server, connect, attack)} events over Socket.IO: all answered")


async def answered(socket: aiohttp.ClientWebSocketResponse, start: str, event: str) -> None:
    """Wait for a message that begins so, past events."""
    while not (heard := await socket.receive_str(timeout=PATIENCE)).startswith(start):
        assert heard.startswith("42") and not heard.startswith('42["reply"'), (event, heard)


async def test_messages_of_any_kind_are_answered_at_ws(
    server: Process, connect: Connect, tell: Tell
) -> None:
    async def attack(chance: random.Random) -> int:
        async with (
            aiohttp.ClientSession(server.url) as session,
            session.ws_connect("/ws?rooms=", max_msg_size=0) as socket,
        ):
            for number in range(MESSAGES):
                route, _, rest = chance.choice(EVENTS)[2:-1].partition('",')
                message = twisted(f'{{"route":"{route}",{rest[1:]}', chance)[:LONGEST]
                if chance.random() < 0.1:
                    await socket.send_bytes(message.encode())
                else:
                    await socket.send_str(message)
                await socket.send_str(json.dumps({"route": "status", "id": f"end {number}"}))
                answers: list[str] = []
                while f'"end {number}"' not in (answers or [""])[-1]:
                    heard = await socket.receive_str(timeout=PATIENCE)
                    if not heard.startswith('{"event":'):
                        answers.append(heard)
                assert len(answers) == 2, message
        return MESSAGES

    tell(f"{await hold_out(server, connect, attack)} messages at /ws: all answered")


async def over_websocket(url: str, chance: random.Random) -> int:
    """Send packets until the connection is closed, or enough; how many."""
    sent = 0
    path = "/socket.io/?EIO=4&transport=websocket"
    async with (
        aiohttp.ClientSession(url) as session,
        session.ws_connect(path, max_msg_size=0) as socket,
    ):
        if chance.random() < 0.8:
            await socket.send_str('40{"rooms":["main"]}')
        for _ in range(MESSAGES):
            if socket.closed:
                break
            packet = twisted(chance.choice(PACKETS), chance)
            try:
                if chance.random() < 0.1:
                    await socket.send_bytes(packet.encode())
                else:
                    await socket.send_str(packet)
            except ConnectionError:
                break
            sent += 1
    return sent


async def over_polling(url: str, chance: random.Random) -> int:
    """Post packets until the session is over, or enough; how many."""
    sent = 0
    path = "/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession(url) as session:
        sid = json.loads((await (await session.get(path)).text())[1:])["sid"]
        where = f"{path}&sid={sid}"
        if chance.random() < 0.8:
            await session.post(where, data='40{"rooms":["main"]}')
        for _ in range(MESSAGES // 4):
            packets = [twisted(chance.choice(PACKETS), chance) for _ in range(3)]
            body = chance.choice(("\x1e", "\x1e", "", ",")).join(packets).encode()
            async with session.post(where, data=body) as response:
                assert response.status < 500
                sent += len(packets)
                if response.status != 200:
                    break
        await session.post(where, data="1")
    return sent


@pytest.mark.parametrize("attack", [over_websocket, over_polling])
async def test_packets_of_any_kind_break_nothing(
    server: Process,
    connect: Connect,
    tell: Tell,
    attack: Callable[[str, random.Random], Awaitable[int]],
) -> None:
    inputs = await hold_out(server, connect, partial(attack, server.url))
    tell(f"{inputs} packets {attack.__name__.replace('_', ' ')}: nothing broke")


@pytest.mark.parametrize("attack", [over_websocket, over_polling])
async def test_packets_of_any_kind_leave_nothing_behind(
    serve: Serve, attack: Callable[[str, random.Random], Awaitable[int]]
) -> None:
    app = await serve(rate_limit=0, connect_timeout=0.3, history=100)
    left: list[int] = []
    for number in range(2 * WARM):
        chances = [random.Random(f"{SEED} {number} {i}") for i in range(CONNECTIONS)]
        await asyncio.gather(*(attack(app.url, chance) for chance in chances))
        await eventually(lambda: app.limits.clients.total == app.connections.total == 0)
        # One that the server has closed is held until its client has gone, too.
        await eventually(lambda: not app.sockets.eio.sockets)
        assert not app.sockets.manager.rooms and not app.sockets.driver.connections
        assert not app.sockets.environ
        assert app.rooms.clients == app.events.clients == 0
        gc.collect()
        left.append(len(gc.get_objects()))
    assert left[-1] < left[WARM - 1] + MOST_LEFT, f"HOURGLASS_SEED={SEED} {left}"


@pytest.mark.parametrize("path", ["/socket.io/?EIO=4&transport=websocket", "/ws?rooms="])
async def test_frames_of_any_kind_break_nothing(
    server: Process, connect: Connect, tell: Tell, path: str
) -> None:
    handshake = REQUEST.replace(b"/socket.io/?EIO=4&transport=websocket", path.encode())

    async def attack(chance: random.Random) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        frames = [handshake, masked(WSMsgType.TEXT, b'40{"rooms":[]}')]
        for _ in range(MESSAGES):
            payload = twisted(chance.choice(PACKETS), chance).encode()[:1000]
            opcode = chance.choice((0, 1, 1, 1, 2, 8, 9, 10, 3, 11))
            fin, rsv = chance.random() < 0.8, chance.choice((0, 0, 0, 4))
            data = bytearray(masked(opcode, payload, fin=fin, rsv=rsv))
            if chance.random() < 0.2:
                data[chance.randrange(len(data))] = chance.randrange(256)
            frames.append(bytes(data))
        if chance.random() < 0.1:
            frames[0] = twisted(handshake.decode(), chance).encode()[:4000]
        try:
            for frame in frames:
                writer.write(frame)
                await writer.drain()
            writer.write_eof()
            while await asyncio.wait_for(reader.read(2**16), PATIENCE):
                pass
        except (ConnectionError, OSError):
            pass
        writer.close()
        return MESSAGES

    tell(f"{await hold_out(server, connect, attack)} frames at {path}: nothing broke")


async def test_bytes_of_any_kind_break_nothing(
    server: Process, connect: Connect, tell: Tell
) -> None:
    host = "Host: localhost\r\n"
    requests = [
        f"GET /api/jobs?room=main HTTP/1.1\r\n{host}Authorization: Bearer x\r\n\r\n",
        f'POST /api/jobs HTTP/1.1\r\n{host}Content-Length: 24\r\n\r\n{{"connid":"a","time":60}}',
        f"POST /api/jobs HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n",
        f"GET /client/app/app.js HTTP/1.1\r\n{host}Range: bytes=0-10\r\n\r\n",
        f"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n{host}\r\n",
        f"OPTIONS /api/jobs HTTP/1.1\r\n{host}Origin: http://localhost\r\n\r\n",
        "GET /openapi.json HTTP/1.0\r\n\r\n",
    ]

    async def attack(chance: random.Random) -> int:
        for _ in range(MESSAGES // 8):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            answer = b""
            try:
                writer.write(twisted(chance.choice(requests), chance).encode())
                writer.write_eof()
                while part := await asyncio.wait_for(reader.read(2**16), PATIENCE):
                    answer += part
            except (ConnectionError, OSError):
                pass
            writer.close()
            assert not re.match(rb"HTTP/1\.\d 5", answer), answer
            for word in (b"Traceback", b"aiohttp", b"Python", b"/server/"):
                assert word not in answer.replace(b"python-socketio aiohttp", b""), answer
        return MESSAGES // 8

    tell(f"{await hold_out(server, connect, attack)} requests over HTTP: nothing broke")


def test_a_twisted_text_is_the_same_for_the_same_seed() -> None:
    made: list[Any] = [twisted(PACKETS[0], random.Random("x")) for _ in range(2)]
    assert made[0] == made[1]
