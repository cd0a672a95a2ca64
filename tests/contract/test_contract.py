"""The documents of the contract, held against what really goes over the wire."""

import asyncio
import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio
from jsonschema import Draft7Validator, Draft202012Validator
from playwright.async_api import Browser, expect

from server.app import App
from server.contract.asyncapi import EVENTS
from server.contract.messages import COMMANDS
from server.contract.openapi import ROUTES
from server.doors.downloads import zipapp
from tests.conftest import Connect, Serve
from tests.support.browsers import check_with_axe, open_page
from tests.support.clients import PATIENCE
from tests.support.redis import RedisServer
from tests.support.servers import ROOT, serving
from tests.support.tokens import SECRET, token

SCHEMA = ROOT / "node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"
Record = list[tuple[str, Any]]
"""The messages that went over a wire, each with its name in the document."""


async def fetched(url: str, path: str = "/asyncapi.json") -> Any:
    async with aiohttp.ClientSession() as session, session.get(url + path) as response:
        assert response.status == 200
        return await response.json()


def closed(schema: Any) -> Any:
    """A schema that takes nothing which it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if "properties" in found:
        found.setdefault("additionalProperties", False)
    return found


def payload_of(document: Any, name: str) -> Any:
    """What the document says of a message, with nothing beside it allowed."""
    payload = document["components"]["messages"][name]["payload"]
    if "allOf" in payload:
        # What a part of them does not name, another one may.
        parts = [resolved(document, part) for part in payload["allOf"]]
        payload = {
            "type": "object",
            "properties": {key: item for part in parts for key, item in part["properties"].items()},
            "required": [key for part in parts for key in part.get("required", ())],
        }
    return closed({**resolved(document, payload), "components": document["components"]})


def resolved(document: Any, schema: Any) -> Any:
    if "$ref" not in schema:
        return schema
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


def check(document: Any, record: Record) -> None:
    """Raises `AssertionError` when a message is not as the document says."""
    validators = {name: Draft202012Validator(payload_of(document, name)) for name, _ in record}
    for name, message in record:
        wrong = [error.message for error in validators[name].iter_errors(message)]
        assert not wrong, (name, message)


class Socket:
    """A client of Socket.IO that keeps all that it says and hears."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.client = socketio.AsyncClient(reconnection=False)
        self.client.on("*", self._heard)
        self._news = asyncio.Event()

    async def _heard(self, name: str, event: Any) -> None:
        self.record.append((f"event.{name}", event))
        self._news.set()

    async def connect(self, url: str, **auth: Any) -> None:
        self.record.append(("connect", auth))
        transports = ["websocket"]
        await self.client.connect(url, auth=auth, transports=transports, wait_timeout=PATIENCE)

    async def command(self, name: str, **fields: Any) -> Any:
        answer = await self.client.call(name, fields, timeout=PATIENCE)
        self.keep("", name, fields, answer)
        return answer

    def keep(self, prefix: str, name: str, message: Any, answer: Any) -> None:
        """Keep an answer, and its command unless that was wrong on purpose."""
        if answer["ok"] or answer["error"]["code"] != "invalid":
            self.record.append((f"{prefix}command.{name}", message))
        self.record.append((f"{prefix}answer.{'Answer' if answer['ok'] else 'Refusal'}", answer))

    async def until(self, check: Callable[[str, Any], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not any(check(name.rpartition(".")[2], event) for name, event in self.record):
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        await self.client.disconnect()


class Plain(Socket):
    """The same over a plain WebSocket."""

    async def connect(self, url: str, **auth: Any) -> None:
        self._session = aiohttp.ClientSession()
        query = {**auth, "rooms": ",".join(auth["rooms"])}
        self._socket = await self._session.ws_connect(f"{url}/ws", params=query)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame.data)
            if "event" in message:
                self.record.append((f"plain.event.{message['event']}", message))
                self._news.set()
            else:
                self._answers[message["id"]].set_result(message)

    async def command(self, name: str, **fields: Any) -> Any:
        id = len(self._answers)
        self._answers[id] = asyncio.get_running_loop().create_future()
        message = {"route": name, "id": id, **fields}
        await self._socket.send_str(json.dumps(message))
        answer = await asyncio.wait_for(self._answers[id], PATIENCE)
        self.keep("plain.", name, message, answer)
        return answer

    async def close(self) -> None:
        await self._socket.close()
        await self._reading
        await self._session.close()


async def live(client: Socket) -> None:
    """Give every command, in every way that is answered differently."""
    one = (await client.command("request", connid="a", time=60, note="n", lease=50))["job"]
    await client.command("request", connid="s", time=60, stoppable="no")
    await client.command("kill", connid="s")
    await client.command("request", connid="a", time=60)
    await client.command("request", connid="a", time=60, if_running="keep")
    await client.command("request", connid=12, time=0.05)
    await client.command("request", connid="b", time=-1)
    for _ in range(2):
        await client.command("request", connid="keyed", time=60, key="k")
    await client.command("kill", connid="keyed")
    await client.command("request", connid="keyed", time=60, key="k")
    report = {"connid": "a", "run": one["run"]}
    await client.command("progress", **report, done=0.5, note="half")
    await client.command("extend", connid="a", time=5, deadline=one["deadline"])
    await client.command("extend", connid="a", time=5, deadline=one["deadline"])
    await client.command("join", room="main", connid="a")
    await client.command("output", **report, text="a line\n")
    await client.until(lambda name, event: name == "output" and event.get("offset") == 0)
    await client.command("join", room="ops", since={"epoch": "another", "seq": 3})
    await client.command("join", room="main", connid="a")
    await client.command("leave", room="ops")
    status = await client.command("status")
    await client.command("status", connid="a")
    await client.command("status", connid="none")
    await client.command("rooms")
    await client.command("kill", connid="a", reason="enough")
    await client.command("kill", connid="a")
    await client.command("stopped", **report, exit=-15)
    two = (await client.command("request", connid="c", time=60))["job"]
    await client.command("finish", connid="c", run=two["run"], result={"rows": [1, None]})
    await client.until(lambda name, event: name == "finished" and event.get("connid") == "12")
    lost = (await client.command("request", connid="d", time=60, lease=0.05))["job"]
    await client.until(lambda name, event: name == "finished" and event.get("connid") == "d")
    await client.command("finish", connid="d", run=lost["run"], outcome="failed", result=3)
    await client.command("history", limit=1)
    await client.command("history", connid="a")
    await client.command("join", room="main")
    await client.command("status", since={"epoch": status["epoch"], "seq": 0})
    await client.until(lambda name, event: name == "presence" and event.get("watching"))


async def lose_the_store(record: Record, kind: type[Socket], folder: Path) -> None:
    """See a server lose its store, and find it again."""
    with RedisServer(folder) as redis:
        async with serving(redis_url=redis.url, redis_timeout=0.5, redis_heartbeat=0.1) as app:
            client = kind(record)
            await client.connect(app.url, rooms=["main"])
            await client.command("request", connid="a", time=60)
            redis.signal(signal.SIGSTOP)
            await client.command("request", connid="b", time=60)
            await client.until(lambda name, event: name == "available" and not event["available"])
            redis.signal(signal.SIGCONT)
            await client.until(lambda name, event: name == "available" and event["available"])
            await client.close()


@pytest.mark.redis
@pytest.mark.parametrize(("kind", "prefix"), [(Socket, ""), (Plain, "plain.")])
async def test_all_that_goes_over_the_wire_is_as_the_document_says(
    serve: Serve, tmp_path: Path, kind: type[Socket], prefix: str
) -> None:
    app = await serve(auth_secret=SECRET)
    document = await fetched(app.url)
    record: Record = []
    client = kind(record)
    await client.connect(app.url, token=token(), rooms=["main"], via="cli")
    await live(client)
    soon = kind(record)
    await soon.connect(app.url, token=token(exp=app.store.now() + 0.5), rooms=["main"])
    await soon.until(lambda name, event: name == "closing")
    await client.close()
    await soon.close()
    await lose_the_store(record, kind, tmp_path)
    check(document, record)
    seen = {name for name, _ in record}
    assert {f"{prefix}command.{name}" for name in COMMANDS} <= seen
    assert {f"{prefix}event.{name}" for name in EVENTS} <= seen
    assert {f"{prefix}answer.Answer", f"{prefix}answer.Refusal"} <= seen


JOB = {"connid": "c", "time": 1}
RUN = {"connid": "a", "run": "r"}
BOUNDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("request", {"connid": "x" * 128, "time": 60}, {"connid": "x" * 129, "time": 60}),
    ("request", {"connid": 5, "time": 60}, {"connid": 5.5, "time": 60}),
    ("request", {"connid": 6.0, "time": 60}, {"connid": True, "time": 60}),
    ("request", {"connid": "a", "time": 2592000}, {"connid": "a", "time": 2592001}),
    ("request", {"connid": "b", "time": 1e-3}, {"connid": "b", "time": 0}),
    ("request", {**JOB, "note": "ä" * 500}, {**JOB, "note": "ä" * 501}),
    ("request", {**JOB, "key": "x" * 64}, {**JOB, "key": "x" * 65}),
    ("request", {**JOB, "connid": "k", "key": None}, {**JOB, "key": ""}),
    ("status", {"room": "A-z.0_9"}, {"room": "a b"}),
    ("status", {"room": None}, {"room": ""}),
    ("status", {"since": {"epoch": "e", "seq": 0}}, {"since": {"epoch": "e", "seq": -1}}),
    ("history", {"limit": 500}, {"limit": 501}),
    ("history", {"limit": 1.0}, {"limit": 1.5}),
    ("history", {"before": 1}, {"before": 0}),
    ("progress", {"connid": "a", "run": "r", "done": 1}, {"connid": "a", "run": "r", "done": 1.1}),
    (
        "finish",
        {"connid": "a", "run": "r", "outcome": "failed"},
        {"connid": "a", "outcome": "lost"},
    ),
    ("stopped", {"connid": "a", "run": "r", "exit": -9}, {"connid": "a", "run": "r", "exit": 0.5}),
    ("kill", {"connid": "a", "run": "r"}, {"run": "r"}),
    ("join", {"room": "main"}, {"connid": "a"}),
    ("output", {"connid": "a", "run": "r", "text": ""}, {"connid": "a", "run": "r"}),
]


@pytest.mark.parametrize(("name", "good", "bad"), BOUNDS)
async def test_the_document_and_the_server_draw_the_same_bounds(
    app: App, connect: Connect, name: str, good: Any, bad: Any
) -> None:
    client = await connect(app.url)
    validator = Draft202012Validator(payload_of(await fetched(app.url), f"command.{name}"))
    for message, valid in ((good, True), (bad, False)):
        answer = await client.command(name, message)
        assert (answer.get("error", {}).get("code") != "invalid") is valid, answer
        assert validator.is_valid(message) is valid


async def test_what_the_document_does_not_say_is_found_out(serve: Serve) -> None:
    document = await fetched((await serve()).url)
    killed = {"room": "r", "seq": 1, "at": 1.5, "connid": "a", "run": "r", "by": "b"}
    good = {**killed, "via": "http", "reason": None}
    check(document, [("event.killed", good), ("plain.event.killed", {**good, "event": "killed"})])
    for wrong in (killed, {**good, "more": 1}, {**good, "seq": "1"}, {**good, "via": "mail"}):
        with pytest.raises(AssertionError):
            check(document, [("event.killed", wrong)])


async def test_the_documents_are_well_formed(serve: Serve) -> None:
    app = await serve()
    document = await fetched(app.url)
    schema = json.loads(SCHEMA.read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(document)] == []
    assert set(document["operations"]) >= {*COMMANDS, *(f"on-{name}" for name in EVENTS)}
    for said in (document, await fetched(app.url, "/openapi.json")):
        for part in said["components"]["schemas"].values():
            Draft202012Validator.check_schema(part)


def parts_of(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema, and all that are in it."""
    if isinstance(schema, list):
        for item in schema:
            yield from parts_of(item)
    elif isinstance(schema, dict):
        yield schema
        yield from parts_of(list(schema.values()))


async def test_generators_find_what_they_need(serve: Serve) -> None:
    url = (await serve()).url
    asyncapi, openapi = await fetched(url), await fetched(url, "/openapi.json")
    assert openapi["servers"] == [{"url": "/"}]
    for operations in openapi["paths"].values():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                assert isinstance(parameter["schema"]["type"], str), parameter
    for part in parts_of([asyncapi, openapi]):
        if isinstance(part.get("enum"), list):
            assert part["type"] == "string" and None not in part["enum"]
        if part.get("type") in ("integer", "number"):
            assert part["format"] in ("int64", "double")
        for name in part.get("required", []) if isinstance(part.get("required"), list) else []:
            assert name in part["properties"]
    titles = [
        resolved(asyncapi, message["payload"])["title"]
        for message in asyncapi["components"]["messages"].values()
    ]
    assert len(set(titles)) == len(titles)


async def test_the_contract_is_there_to_read(app: App, browser: Browser) -> None:
    page = await open_page(await browser.new_context(), f"{app.url}/docs")
    for part, names in (("commands", COMMANDS), ("events", EVENTS)):
        shown = page.locator(f"#{part} h3")
        await expect(shown).to_have_text(list(names))
    await expect(page.locator("#routes h3")).to_have_count(len(ROUTES))
    kill = page.locator("#commands-kill")
    await expect(kill).to_contain_text("Ends a running job")
    await expect(kill.get_by_role("row", name="reason")).to_contain_text("text or null, if given")
    pyz = hashlib.sha256(zipapp().body).hexdigest()
    await expect(page.locator("#downloads")).to_contain_text(pyz)
    await page.set_viewport_size({"width": 390, "height": 844})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.errors == []  # type: ignore[attr-defined]
    await check_with_axe(page, "the contract")
