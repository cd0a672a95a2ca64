"""Clients of every door, all with the same few methods, so that one test can use any of them."""

import asyncio
import atexit
import base64
import json
import subprocess
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import quote

import aiohttp
import socketio
from yarl import URL

from server.core.subscribers import Client
from tests.support.servers import ROOT

Answer = dict[str, Any]
Event = tuple[str, dict[str, Any]]
PATIENCE = 15
"""Seconds that a test waits for what must happen."""


class TestClient:
    """Gives commands, and keeps the events that it hears."""

    __test__ = False
    hears = True

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._heard = asyncio.Event()
        self._seen = 0

    async def connect(self, url: str, **hello: Any) -> None:
        """Connect, with the `token`, `name`, `rooms` and `since` of the protocol."""
        raise NotImplementedError

    async def command(self, name: str, payload: Any = None) -> Answer:
        """Give a command and wait for its answer."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def heard(self, name: str, body: dict[str, Any]) -> None:
        self.events.append((name, body))
        self._heard.set()

    async def until(self, check: Callable[[list[Event]], Any]) -> Any:
        """Wait until `check` of all events heard is true; what it returned."""
        async with asyncio.timeout(PATIENCE):
            while not (found := check(self.events)):
                self._heard.clear()
                await self._heard.wait()
        return found

    async def event(self, name: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event with these fields, heard since the last one that this returned."""

        def find(events: list[Event]) -> tuple[int, dict[str, Any]] | None:
            for index, (heard, body) in enumerate(events[self._seen :], self._seen):
                if heard == name and all(body.get(key) == value for key, value in fields.items()):
                    return index, body
            return None

        index, body = await self.until(find)
        self._seen = index + 1
        return body


class PythonClient(TestClient):
    """The Socket.IO client of python-socketio."""

    transports: list[str] | None = ["websocket"]

    def __init__(self) -> None:
        super().__init__()
        self.sio = socketio.AsyncClient(reconnection=False, request_timeout=PATIENCE)
        self.sio.on("*", self._on_event)
        self.sio.on("connect_error", self._on_connect_error)
        self._refusal: Any = None

    async def _on_event(self, name: str, *args: Any) -> None:
        self.heard(name, args[0])

    async def _on_connect_error(self, refusal: Any) -> None:
        self._refusal = refusal

    async def connect(self, url: str, **hello: Any) -> None:
        try:
            await self.sio.connect(
                url, auth=hello, transports=self.transports, wait_timeout=PATIENCE
            )
        except socketio.exceptions.ConnectionError:
            raise socketio.exceptions.ConnectionError(self._refusal) from None

    async def command(self, name: str, payload: Any = None) -> Answer:
        data = payload if payload is not None else ()
        return await self.sio.call(name, data, timeout=PATIENCE)

    async def close(self) -> None:
        await self.sio.disconnect()


class PollingClient(PythonClient):
    """The same over long polling."""

    transports = ["polling"]


class MessageClient(PythonClient):
    """The same with `message` events, whose `route` names the command."""

    async def command(self, name: str, payload: Any = None) -> Answer:
        if payload is None or isinstance(payload, dict):
            payload = {"route": name, **(payload or {})}
        return await super().command("message", payload)


@cache
def bridge() -> int:
    """The port of a Node process for all tests, which has a client for each connection."""
    process = subprocess.Popen(
        ["node", "tests/bridge.mjs"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def end() -> None:
        process.kill()
        process.communicate()

    atexit.register(end)
    assert process.stdout is not None
    return int(process.stdout.readline())


class NodeClient(TestClient):
    """The official JavaScript client, in a Node process."""

    options: dict[str, Any] = {"transports": ["websocket"]}

    def __init__(self) -> None:
        super().__init__()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._connected: asyncio.Future[dict[str, Any]] | None = None
        self.connections = 0
        self.refusals: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def connect(self, url: str, **hello: Any) -> None:
        self._connected = asyncio.get_running_loop().create_future()
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", bridge(), limit=2**24
        )
        self._write({"url": url, "options": {**self.options, "auth": hello}})
        self._reading = asyncio.create_task(self._read())
        found = await asyncio.wait_for(self._connected, PATIENCE)
        if "connect_error" in found:
            await self.close()
            raise socketio.exceptions.ConnectionError(found)

    async def command(self, name: str, payload: Any = None) -> Answer:
        number = len(self._answers) + 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        args = [] if payload is None else [tagged(payload)]
        self._write({"id": number, "emit": name, "args": args})
        return await asyncio.wait_for(answer, PATIENCE)

    def emit(self, name: str, *args: Any) -> None:
        """Emit without an acknowledgement."""
        self._write({"emit": name, "args": [tagged(arg) for arg in args], "noack": True})

    async def close(self) -> None:
        assert self._reading is not None
        self._write({"close": True})
        await asyncio.wait_for(self._reading, PATIENCE)
        self._writer.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._writer.write(json.dumps(line).encode() + b"\n")

    async def _read(self) -> None:
        async for line in self._reader:
            said = json.loads(line)
            if "ack" in said:
                self._answers[said["id"]].set_result(said["ack"][0])
            elif "event" in said:
                self.heard(said["event"], said["args"][0])
            elif "connected" in said or "connect_error" in said:
                self.connections += "connected" in said
                if "connect_error" in said:
                    self.refusals.put_nowait(said)
                if self._connected is not None and not self._connected.done():
                    self._connected.set_result(said)


class PlainClient(TestClient):
    """A plain WebSocket at `/ws`."""

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def connect(self, url: str, **hello: Any) -> None:
        self._session = aiohttp.ClientSession()
        address = f"{url}/ws?" + "&".join(f"{key}={quote(v)}" for key, v in query(hello).items())
        try:
            self.socket = await self._session.ws_connect(address)
        except BaseException:
            await self._session.close()
            raise
        self._reading = asyncio.create_task(self._read())

    async def command(self, name: str, payload: Any = None) -> Answer:
        """What is not an object is sent as it is, and answered without an id."""
        number = len(self._answers) + 1
        key = number
        if payload is None or isinstance(payload, dict):
            payload = {"route": name, **(payload or {}), "id": number}
        else:
            key = 0
        answer = self._answers[key] = asyncio.get_running_loop().create_future()
        await self.socket.send_str(json.dumps(payload))
        return await asyncio.wait_for(answer, PATIENCE)

    async def close(self) -> None:
        await self.socket.close()
        if self._reading is not None:
            await self._reading
        await self._session.close()

    async def _read(self) -> None:
        async for message in self.socket:
            body = json.loads(message.data)
            if "event" in body:
                self.heard(body.pop("event"), body)
            else:
                self._answers[body.pop("id", 0)].set_result(body)


class HttpClient(TestClient):
    """HTTP at `/api`; `status` is that of the last response."""

    hears = False
    status = 0

    async def connect(self, url: str, **hello: Any) -> None:
        self._session = aiohttp.ClientSession(url)
        hello.pop("rooms", None)
        self._query = query(hello)

    async def command(self, name: str, payload: Any = None) -> Answer:
        """The request that stands for a command; what an address cannot hold goes into a body."""
        fields = dict(payload) if isinstance(payload, dict) else {}
        connid = fields.pop("connid", None) if isinstance(fields.get("connid"), str | int) else None
        job = f"/api/jobs/{quote(str(connid), safe='')}"
        if name == "request":
            return await self._send("POST", "/api/jobs", payload)
        if name == "history":
            if connid is not None:
                fields["connid"] = str(connid)
            return await self._send("GET", "/api/history", None, fields)
        if name == "rooms":
            return await self._send("GET", "/api/rooms", None, fields)
        if name == "status":
            path = "/api/jobs" if connid is None else job
            return await self._send("GET", path, None, fields)
        if name == "kill" and connid is not None:
            return await self._send("DELETE", job, None, fields)
        return await self._send("POST", f"{job}/{name}", fields)

    async def close(self) -> None:
        await self._session.close()

    async def _send(
        self, method: str, path: str, body: Any, fields: dict[str, Any] | None = None
    ) -> Answer:
        params = {**self._query, **query(fields or {})}
        data = None if body is None else json.dumps(body)
        url = URL(path, encoded=True).with_query(params)
        async with self._session.request(method, url, data=data) as response:
            self.status = response.status
            return await response.json()


CLIENTS: dict[str, type[TestClient]] = {
    "python": PythonClient,
    "polling": PollingClient,
    "message": MessageClient,
    "node": NodeClient,
    "websocket": PlainClient,
    "http": HttpClient,
}


def query(fields: dict[str, Any]) -> dict[str, str]:
    """Fields of the protocol as the parameters of an address."""
    found = {}
    for key, value in fields.items():
        if key == "rooms":
            found[key] = ",".join(value)
        elif key == "since" and "epoch" in value:
            found[key] = f"{value['epoch']}:{value['seq']}"
        elif key == "since":
            places = value.items()
            found[key] = ",".join(f"{room}:{at['epoch']}:{at['seq']}" for room, at in places)
        elif value is not None:
            found[key] = str(value)
    return found


def tagged(value: Any) -> Any:
    """A value with its binary parts as the Node program takes them."""
    if isinstance(value, bytes):
        return {"$binary": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: tagged(item) for key, item in value.items()}
    return [tagged(item) for item in value] if isinstance(value, list) else value


class Slow(Client):
    """What a server has of a client that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.queued: list[tuple[str, bytes]] = []
        self.dropped = False

    def send(self, frame: Any) -> None:
        self.queued.append((frame.name, frame.body))

    def send_shared(self, name: str, head: bytes, body: Any) -> None:
        self.queued.append((name, head + body.data))

    def backlog(self) -> int:
        return sum(len(body) for _, body in self.queued)

    def drop(self) -> None:
        self.dropped = True
