"""Whatever a client sends, it gets an answer with the right code, and the connection stays up."""

import asyncio
import json
import re
from typing import Any

import aiohttp
import pytest

from server.app import App
from tests.conftest import Connect, Serve
from tests.support.clients import PATIENCE, NodeClient, PlainClient, PythonClient, TestClient
from tests.support.servers import eventually

pytestmark = pytest.mark.each_store

RUN = "01a20c768339ceed9fbfb00c"
VALID: dict[str, dict[str, Any]] = {
    "request": {
        "connid": "a",
        "time": 60,
        "note": "n",
        "lease": 5,
        "if_running": "keep",
        "stoppable": "no",
        "key": "k",
    },
    "kill": {"connid": "a", "run": RUN, "reason": "r"},
    "status": {"connid": "a", "since": {"epoch": "e", "seq": 1}},
    "extend": {"connid": "a", "time": 60, "run": RUN, "deadline": 2.0**40},
    "finish": {"connid": "a", "run": RUN, "outcome": "done", "result": 1},
    "progress": {"connid": "a", "run": RUN, "done": 0.5, "note": "n"},
    "stopped": {"connid": "a", "run": RUN, "exit": 0},
    "join": {"room": "main", "connid": "a", "since": {"epoch": "e", "seq": 1}},
    "leave": {"room": "main", "connid": "a"},
    "history": {"connid": "a", "before": 1, "limit": 1},
    "rooms": {},
}
REQUIRED = {
    "request": ["connid", "time"],
    "kill": ["connid"],
    "extend": ["connid", "time"],
    "finish": ["connid", "run"],
    "progress": ["connid", "run"],
    "stopped": ["connid", "run"],
    "join": ["room"],
    "leave": ["room"],
}
NEVER = {"text": "\x00", "surrogate": "\ud800", "number": -1, "fraction": 1.5, "flag": True}
NEVER |= {"array": [1], "object": {"a": 1}, "nan": float("nan"), "infinity": float("inf")}
NEVER |= {"huge": 10**400, "binary": b"\x00\x01", "deep": [[[[[[]]]]]], "long": "x" * 2000}
FITS = {
    ("time", "fraction"),
    ("lease", "fraction"),
    ("deadline", "fraction"),
    ("exit", "number"),
    ("connid", "number"),
    ("note", "text"),
    ("reason", "text"),
    *(("result", kind) for kind in NEVER if kind not in ("surrogate", "nan", "infinity", "binary")),
}
"""The values above that a field does accept."""
CASES = [
    pytest.param(name, field, kind, id=f"{name}-{field}-{kind}")
    for name, fields in VALID.items()
    for field in fields
    for kind in NEVER
    if (field, kind) not in FITS
]
OUT_OF_RANGE = [
    ("request", {"time": 0}, "time"),
    ("request", {"time": 1e300}, "time"),
    ("request", {"time": 2_592_000.1}, "time"),
    ("request", {"time": "1_0"}, "time"),
    ("request", {"time": "nan"}, "time"),
    ("request", {"time": "٣"}, "time"),
    ("request", {"time": ""}, "time"),
    ("request", {"time": "0" * 64 + "1"}, "time"),
    ("request", {"time": "1" * 6_000 + "x"}, "time"),
    ("request", {"lease": "1" * 6_000 + "x"}, "lease"),
    ("request", {"connid": ""}, "connid"),
    ("request", {"connid": "x" * 129}, "connid"),
    ("request", {"connid": "a\nb"}, "connid"),
    ("request", {"connid": "a\x85b"}, "connid"),
    ("request", {"room": ""}, "room"),
    ("request", {"room": "x" * 65}, "room"),
    ("request", {"room": "a b"}, "room"),
    ("request", {"room": "a\n"}, "room"),
    ("request", {"note": "x" * 501}, "note"),
    ("request", {"if_running": "maybe"}, "if_running"),
    ("kill", {"reason": "x" * 501}, "reason"),
    ("status", {"since": {"epoch": "e"}}, "since"),
    ("status", {"since": {"seq": 1}}, "since"),
    ("status", {"since": {"epoch": "e", "seq": -1}}, "since"),
    ("status", {"since": {"epoch": "e", "seq": "1"}}, "since"),
    ("finish", {"outcome": "elapsed"}, "outcome"),
    ("finish", {"result": "x" * 4096}, "result"),
    ("progress", {"done": 1.01}, "done"),
    ("stopped", {"exit": 2**40}, "exit"),
    ("history", {"limit": 0}, "limit"),
    ("history", {"limit": 501}, "limit"),
]


def assert_invalid(answer: dict[str, Any], field: str | None) -> None:
    assert answer["ok"] is False, answer
    assert answer["error"]["code"] == "invalid"
    assert answer["error"].get("field") == field
    assert field is None or answer["error"]["message"].startswith(field)


async def assert_alive(client: TestClient) -> None:
    assert (await client.command("status"))["ok"]


@pytest.mark.parametrize(("name", "field", "kind"), CASES)
async def test_a_field_of_the_wrong_kind(
    app: App, connect: Connect, name: str, field: str, kind: str
) -> None:
    client = await connect(app.url)
    answer = await client.command(name, {**VALID[name], field: NEVER[kind]})
    assert_invalid(answer, field)
    await assert_alive(client)


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, fields in REQUIRED.items() for field in fields]
)
@pytest.mark.parametrize("kind", ["python", "websocket"])
async def test_a_field_that_is_missing_or_null(
    app: App, connect: Connect, kind: str, name: str, field: str
) -> None:
    client = await connect(app.url, kind)
    rest = {key: value for key, value in VALID[name].items() if key != field}
    assert_invalid(await client.command(name, rest), field)
    assert_invalid(await client.command(name, {**rest, field: None}), field)
    await assert_alive(client)


@pytest.mark.parametrize(("name", "fields", "field"), OUT_OF_RANGE)
@pytest.mark.parametrize("kind", ["python", "node", "websocket"])
async def test_a_field_out_of_its_range(
    app: App, connect: Connect, kind: str, name: str, fields: dict[str, Any], field: str
) -> None:
    client = await connect(app.url, kind)
    assert_invalid(await client.command(name, {**VALID[name], **fields}), field)
    await assert_alive(client)


async def test_optional_fields_may_be_null(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    nothing = {"room": None, "note": None, "lease": None, "if_running": None, "route": None}
    answer = await client.command("request", {"connid": "a", "time": 60, **nothing})
    assert answer["ok"]
    assert answer["room"] == "main"


async def test_fields_that_are_not_known_are_ignored(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    answer = await client.command("request", {"connid": "a", "time": 60, "__proto__": {"x": 1}})
    assert answer["ok"]


@pytest.mark.parametrize("payload", [[], [1, 2], "text", 5, True, b"\x00", 1.5], ids=repr)
@pytest.mark.parametrize("kind", ["python", "message", "node"])
async def test_a_command_that_is_no_object(
    app: App, connect: Connect, kind: str, payload: Any
) -> None:
    client = await connect(app.url, kind)
    answer = await client.command("request", payload)
    assert answer["error"]["code"] == "invalid"
    await assert_alive(client)


@pytest.mark.parametrize("kind", ["python", "polling", "node"])
async def test_null_and_no_argument_are_an_object_without_fields(
    app: App, connect: Connect, kind: str
) -> None:
    client = await connect(app.url, kind)
    for argument in (None, (None,)):
        if isinstance(client, PythonClient):
            answers = [
                await client.sio.call(name, argument, timeout=PATIENCE)
                for name in ("status", "request", "message")
            ]
        else:
            assert isinstance(client, NodeClient)
            for name in ("status", "request", "message"):
                client.emit(name, *(argument or ()))
            answers = [await client.event("reply") for _ in range(3)]
        assert answers[0]["jobs"] == []
        assert_invalid(answers[1], "connid")
        assert answers[2]["error"]["code"] == "unknown_route"


@pytest.mark.parametrize("auth", ["", "null", "{}"])
async def test_auth_that_is_null_says_nothing(app: App, auth: str) -> None:
    address = f"{app.url}/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
        await socket.receive_str()
        await socket.send_str(f"40{auth}")
        assert (await socket.receive_str(timeout=PATIENCE)).startswith("40{")


async def test_null_is_an_object_without_fields_in_plain_json(app: App) -> None:
    async with aiohttp.ClientSession(app.url) as session:
        async with session.ws_connect("/ws?rooms=") as socket:
            await socket.send_str("null")
            assert (await socket.receive_json())["error"]["code"] == "unknown_route"
        async with session.post("/api/jobs?connid=a&time=60", data=b"null") as response:
            job = (await response.json())["job"]
        for body in (b"null", None):
            path = f"/api/jobs/a/progress?run={job['run']}&done=0.5"
            async with session.post(path, data=body) as response:
                assert (await response.json())["ok"]


async def test_more_than_one_object(app: App, connect: Connect) -> None:
    client = await connect(app.url)
    assert_invalid(await client.command("status", ({}, {})), None)
    await assert_alive(client)


@pytest.mark.parametrize("name", ["explode", "disconnect", "connect", "reply", "*", "é", "x" * 999])
async def test_an_unknown_event(app: App, connect: Connect, name: str) -> None:
    client = await connect(app.url)
    assert isinstance(client, PythonClient)
    answer = await client.sio.call(name, {"connid": "a"}, timeout=PATIENCE)
    assert answer["error"]["code"] == "unknown_route"
    await assert_alive(client)


@pytest.mark.parametrize("route", [None, 5, "", "explode", ["kill"], {}])
async def test_a_message_without_a_known_route(app: App, connect: Connect, route: Any) -> None:
    client = await connect(app.url)
    answer = await client.command("message", {"route": route, "connid": "a"})
    assert answer["error"]["code"] == "unknown_route"
    await assert_alive(client)


async def test_a_huge_message(app: App, connect: Connect) -> None:
    huge = {"route": "request", "connid": "a", "time": 1, "note": "x" * 200_000}
    for kind in ("python", "node"):
        client = await connect(app.url, kind)
        answer = await client.command("request", huge)
        assert answer["error"]["code"] == "invalid"
        assert "65536" in answer["error"]["message"]
        await assert_alive(client)
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{app.url}/ws?rooms=") as ws:
        await ws.send_json(huge)
        assert (await ws.receive_json())["error"]["code"] == "invalid"
        await ws.send_json({"route": "status"})
        assert (await ws.receive_json())["ok"]


@pytest.mark.parametrize(
    "packet",
    [
        '421["status",{',
        '451-1["a",{"_placeholder":true,"num":7}]',
        '459999999999-1["kill",{"connid":{"_placeholder":true,"num":0}}]',
        '450-1["kill",{}]',
        "421nonsense",
        '421{"a":1}',
        '421"text"',
        "4217",
        "421[]",
        "421[7]",
        '421[""]',
        "421null",
        "421" + "[" * 20_000,
        '421["request",{"connid":' + "[" * 900 + "]" * 900 + ',"time":1}]',
    ],
    ids=lambda packet: packet[:16],
)
async def test_a_packet_that_is_no_event(app: App, connect: Connect, packet: str) -> None:
    address = f"{app.url}/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
        await socket.receive_str()
        await socket.send_str('40{"rooms":[]}')
        assert (await socket.receive_str()).startswith("40{")
        await socket.send_str(packet)
        answer = await socket.receive_str(timeout=PATIENCE)
        assert re.match(r"431\d?\[", answer)
        assert json.loads(answer[answer.index("[") :])[0]["error"]["code"] == "invalid"
        await socket.send_str('422["status"]')
        assert '"ok":true' in await socket.receive_str(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid"),
        ("nonsense", "invalid"),
        ("[]", "invalid"),
        ('"status"', "invalid"),
        ("{}", "unknown_route"),
        ('{"route":"status"', "invalid"),
        ("[" * 30_000, "invalid"),
    ],
)
async def test_a_plain_message_that_is_no_command(
    app: App, connect: Connect, text: str, code: str
) -> None:
    client = await connect(app.url, "websocket", rooms=[])
    assert isinstance(client, PlainClient)
    await client.close()
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{app.url}/ws?rooms=") as ws:
        await ws.send_str(text)
        assert json.loads(await ws.receive_str())["error"]["code"] == code
        await ws.send_bytes(b'{"route":"status"}')
        assert json.loads(await ws.receive_str())["error"]["code"] == "invalid"
        await ws.send_str('{"route":"status","id":"x"}')
        answer = json.loads(await ws.receive_str())
        assert (answer["ok"], answer["id"]) == (True, "x")


@pytest.mark.parametrize("body", [b"nonsense", b"[]", b'"x"', b"\xff", b"null", b"[" * 30_000])
async def test_a_body_that_is_no_command(app: App, body: bytes) -> None:
    async with aiohttp.ClientSession(app.url) as session:
        async with session.post("/api/jobs", data=body) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == "invalid"
        async with session.get("/api/jobs?since=nonsense") as response:
            assert (await response.json())["error"]["field"] == "since"


@pytest.mark.parametrize(
    "auth",
    [
        [1],
        "text",
        {"rooms": "main, ops"},
        {"rooms": ["a b"]},
        {"rooms": [1]},
        {"rooms": ["r"] * 101},
        {"name": 5},
        {"name": "x" * 65},
        {"name": "a\x00b"},
        {"token": 5},
        {"via": "server"},
        {"since": []},
        {"since": {"main": 5}},
        {"since": {"main": {"epoch": "e", "seq": -1}}},
    ],
    ids=repr,
)
async def test_bad_auth_refuses_the_connection_with_the_reason(app: App, auth: Any) -> None:
    address = f"{app.url}/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
        await socket.receive_str()
        await socket.send_str("40" + json.dumps(auth))
        answer = await socket.receive_str(timeout=PATIENCE)
        assert answer.startswith("44")
        refusal = json.loads(answer[2:])
        assert refusal["data"]["code"] == "invalid"
        field = next(iter(auth)) if isinstance(auth, dict) else "auth"
        assert refusal["data"]["field"] == field
        assert field in refusal["message"]


async def test_a_name_that_is_blank_is_none(app: App, connect: Connect) -> None:
    client = await connect(app.url, name="  ")
    assert (await client.command("request", {"connid": "a", "time": 1}))["job"]["by"] == "anonymous"


async def test_answers_without_an_acknowledgement_come_as_reply(app: App, connect: Connect) -> None:
    client = await connect(app.url, "node")
    assert isinstance(client, NodeClient)
    client.emit("request", {"connid": "a", "time": 60})
    assert (await client.event("reply"))["result"] == "started"
    client.emit("explode")
    assert (await client.event("reply"))["error"]["code"] == "unknown_route"


async def test_a_bug_is_answered_and_logged(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    app = await serve()

    async def broken(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(app.store, "history", broken)
    for kind in ("python", "websocket", "http"):
        client = await connect(app.url, kind)
        answer = await client.command("history")
        assert answer["error"]["code"] == "internal"
        assert "secret" not in json.dumps(answer)
    assert "RuntimeError: secret" in caplog.text


@pytest.mark.parametrize(
    "packet",
    [
        "4",
        "4x",
        "47",
        "44{}",
        "4²",
        "42²[1]",
        "421²[1]",
        "42" + "1" * 200,
        "4[",
        "4-",
        "45²-[1]",
        '4{"a":1}',
        "4[1]",
        "4null",
        '4"0"',
    ],
)
@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_what_is_no_packet_of_socketio_ends_its_connection(
    app: App, connect: Connect, caplog: pytest.LogCaptureFixture, packet: str, transport: str
) -> None:
    path = f"/socket.io/?EIO=4&transport={transport}"
    other = await connect(app.url)
    async with aiohttp.ClientSession(app.url) as session:
        if transport == "websocket":
            async with session.ws_connect(path) as socket:
                await socket.receive_str()
                await socket.send_str('40{"rooms":[]}')
                assert (await socket.receive_str()).startswith("40{")
                await socket.send_str(packet)
                assert '42["closing",{"code":"invalid",' in await socket.receive_str()
                assert await socket.receive_str(timeout=PATIENCE) == "1"
        else:
            path += f"&sid={json.loads((await (await session.get(path)).text())[1:])['sid']}"
            await session.post(path, data='40{"rooms":[]}')
            assert (await (await session.get(path)).text()).startswith("40{")
            assert (await session.post(path, data=packet)).status == 200
            told = await (await session.get(path)).text()
            assert '42["closing",{"code":"invalid",' in told and told.endswith("\x1e1")
            await eventually(lambda: app.limits.clients.total == 1)
    await assert_alive(other)
    assert "Traceback" not in caplog.text


async def test_a_post_that_comes_in_pieces_is_taken_whole(app: App) -> None:
    path = "/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession(app.url) as session:
        path += f"&sid={json.loads((await (await session.get(path)).text())[1:])['sid']}"
        hello, command = '40{"rooms":[]}', '421["request",{"connid":"ä","time":60}]'
        body = f"{hello}\x1e{command}".encode()
        _, writer = await asyncio.open_connection("127.0.0.1", app.port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:30])
        await writer.drain()
        await (await session.get("/api/jobs")).read()  # The first part has arrived by now.
        writer.write(body[30:])
        await writer.drain()
        answers = await (await session.get(path)).text()
        if "431[" not in answers:
            answers += await (await session.get(path)).text()
        writer.close()
    assert '431[{"ok":true,"result":"started"' in answers


@pytest.mark.parametrize("body", [b"\xff", b"", b"9", b"4\x1e", b"b!"])
async def test_a_post_that_is_no_payload(
    app: App, connect: Connect, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    path = "/socket.io/?EIO=4&transport=polling"
    other = await connect(app.url)
    async with aiohttp.ClientSession(app.url) as session:
        path += f"&sid={json.loads((await (await session.get(path)).text())[1:])['sid']}"
        async with session.post(path, data=body) as response:
            assert response.status in (200, 400, 413)
    await assert_alive(other)
    assert "Traceback" not in caplog.text
