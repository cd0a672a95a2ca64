"""Quick clients that load a server, and note what it promised them, to hold it to that later."""

import asyncio
import json
import random
import socket
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.clients import PATIENCE, Answer, query
from tests.support.replay import Dashboard

ROOMS = ("main", "night")
SHORT = 0.05
"""Seconds of the jobs that are to run out of time."""
LONG = 3600
ENDS = ("killed", "finished")


class Gone(Exception):
    """The connection was lost before the answer came: whether it was done is not known."""


class Line:
    """One connection that gives one command at a time, so that an order of events is known."""

    def __init__(self) -> None:
        self.goodbye: Any = None

    async def open(self, url: str, **hello: Any) -> None:
        """Connect, with the `name`, `rooms` and `since` of the protocol."""
        raise NotImplementedError

    async def call(self, name: str, **fields: Any) -> Answer:
        """Give a command and wait for its answer. Raises `Gone`."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def hear(self, name: str, body: dict[str, Any]) -> None:
        """Called with each event."""


class SocketLine(Line):
    """A connection that stays open: what all WebSockets have in common."""

    path = "/ws"

    async def open(self, url: str, **hello: Any) -> None:
        self._session = aiohttp.ClientSession()
        self._number = 0
        try:
            self._ws = await self._session.ws_connect(url + self.path, params=self.params(hello))
            await self.greet(hello)
        except BaseException:
            await self._session.close()
            raise

    async def call(self, name: str, **fields: Any) -> Answer:
        number = await self.give(name, **fields)
        while True:
            answered, answer = await self.next_answer()
            if answered == number:
                return answer

    async def give(self, name: str, **fields: Any) -> int:
        """Give a command without waiting; its number."""
        self._number += 1
        await self.send(self.wrap(self._number, name, fields))
        return self._number

    async def next_answer(self) -> tuple[int, Answer]:
        """The next answer that comes, and the number of its command. Raises `Gone`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.unwrap(await self.receive())
                if found is not None:
                    return found

    async def listen(self) -> None:
        """Hear events until the connection is lost."""
        try:
            while True:
                await self.unwrap(await self.receive())
        except Gone:
            pass

    async def close(self) -> None:
        await self._ws.close()
        await self._session.close()

    async def send(self, text: str) -> None:
        try:
            await self._ws.send_str(text)
        except (aiohttp.ClientError, OSError) as error:
            raise Gone from error

    async def receive(self) -> str:
        message = await self._ws.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            self.goodbye = message.data
            raise Gone
        return message.data

    def params(self, hello: dict[str, Any]) -> dict[str, str]:
        """The query of the address to connect to."""
        raise NotImplementedError

    async def greet(self, hello: dict[str, Any]) -> None:
        """Do what comes before the first command."""

    def wrap(self, number: int, name: str, fields: dict[str, Any]) -> str:
        """A command as a message."""
        raise NotImplementedError

    async def unwrap(self, text: str) -> tuple[int, Answer] | None:
        """The answer and its number in a message, if it is one."""
        raise NotImplementedError


class PlainLine(SocketLine):
    """A plain WebSocket at `/ws`."""

    def params(self, hello: dict[str, Any]) -> dict[str, str]:
        return query({key: value for key, value in hello.items() if value != {}})

    def wrap(self, number: int, name: str, fields: dict[str, Any]) -> str:
        return json.dumps({"route": name, "id": number, **fields})

    async def unwrap(self, text: str) -> tuple[int, Answer] | None:
        body = json.loads(text)
        if "event" not in body:
            return body.pop("id"), body
        self.hear(body.pop("event"), body)
        return None


class SocketIoLine(SocketLine):
    """Socket.IO's packets by hand over a WebSocket, without the cost of a whole client."""

    path = "/socket.io/"

    def params(self, hello: dict[str, Any]) -> dict[str, str]:
        return {"EIO": "4", "transport": "websocket"}

    async def greet(self, hello: dict[str, Any]) -> None:
        await self.receive()
        await self.send("40" + json.dumps(hello))
        connected = await self.receive()
        assert connected.startswith("40"), connected

    def wrap(self, number: int, name: str, fields: dict[str, Any]) -> str:
        return f"42{number}{json.dumps([name, fields])}"

    async def unwrap(self, text: str) -> tuple[int, Answer] | None:
        if text == "2":
            await self.send("3")
        elif text.startswith("42"):
            self.hear(*json.loads(text[2:]))
        elif text.startswith("43"):
            number, bracket, rest = text[2:].partition("[")
            return int(number), json.loads(bracket + rest)[0]
        elif text in ("1", "41"):
            self.goodbye = text
            await self._ws.close()
            raise Gone
        return None


class HttpLine(Line):
    """HTTP requests over one connection that is kept."""

    async def open(self, url: str, **hello: Any) -> None:
        self._url = url
        self._session = aiohttp.ClientSession()

    async def call(self, name: str, **fields: Any) -> Answer:
        method, path = "POST", "/api/jobs"
        body: dict[str, Any] | None = None
        if name == "request":
            body = fields
        elif name == "kill":
            method, path = "DELETE", f"{path}/{fields.pop('connid')}"
        elif name == "status":
            method = "GET"
        else:
            path, body = f"{path}/{fields.pop('connid')}/{name}", fields
        params = {} if body is not None else query(fields)
        try:
            async with self._session.request(
                method, self._url + path, params=params, json=body
            ) as response:
                return await response.json()
        except (aiohttp.ClientError, OSError) as error:
            raise Gone from error

    async def close(self) -> None:
        await self._session.close()


LINES: tuple[type[Line], ...] = (PlainLine, SocketIoLine, HttpLine)


@dataclass
class Ledger:
    """What a server acknowledged, and what it said that it did not do.

    Each command carries a mark of its own, which its event in the log carries as well.
    """

    acknowledged: list[tuple[str, Answer]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    unavailable: int = 0
    unknown: int = 0
    counter: int = 0

    def mark(self) -> str:
        self.counter += 1
        return f"mark {self.counter}"

    async def call(self, line: Line, name: str, mark: str, **fields: Any) -> Answer:
        """Give a command that is marked with `mark`, and note what became of it."""
        try:
            answer = await line.call(name, **fields)
        except Gone:
            self.unknown += 1
            raise
        self.note(mark, answer)
        return answer

    def note(self, mark: str, answer: Answer) -> None:
        """Keep an answer; one that no server should give fails the test."""
        if not answer["ok"]:
            code = answer["error"]["code"]
            assert code in ("conflict", "not_running", "unavailable"), answer
            if answer["error"].get("unknown"):
                self.unknown += 1
                return
            self.refused.add(mark)
            self.unavailable += code == "unavailable"
        elif answer["result"] != "exists":
            self.acknowledged.append((mark, answer))

    def results(self) -> list[str]:
        return [answer["result"] for _, answer in self.acknowledged]


class Replay(Dashboard):
    """A dashboard that remembers what it was told, and accepts no hole."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshots = 0
        self.events: list[dict[str, Any]] = []
        self.ends: dict[str, dict[str, Any]] = {}

    def hear(self, name: str, body: dict[str, Any]) -> None:
        self.snapshots += name == "snapshot"
        new = name in ("started", *ENDS) and body["seq"] > self.seq
        if new:
            # A copy: the job of a `started` lives on, and is given its progress.
            self.events.append(deepcopy({"event": name, **body}))
        super().hear(name, body)
        assert not self.hole, f"{body} does not follow {self.seq}"
        if new and name in ENDS:
            self.ends[body["run"]] = self.ended[-1]


class Watching(SocketLine):
    """What makes a line a dashboard of all rooms, which comes back with what it has."""

    def __init__(self, replays: dict[str, Replay] | None = None) -> None:
        super().__init__()
        self.replays = replays or {room: Replay() for room in ROOMS}
        self._moved = asyncio.Event()

    async def watch(self, url: str) -> None:
        """Connect, and hear events until the connection is lost."""
        since = {room: replay.since for room, replay in self.replays.items() if replay.epoch}
        await self.open(url, rooms=list(self.replays), since=since)
        self.task = asyncio.create_task(self.listen())

    def hear(self, name: str, body: dict[str, Any]) -> None:
        if name != "reply" and "room" in body:  # A goodbye is of none.
            self.replays[body["room"]].hear(name, body)
        self._moved.set()

    async def reach(self, room: str, seq: int) -> None:
        """Wait until a room stands at `seq`."""
        await self._until(lambda: self.replays[room].epoch and self.replays[room].seq >= seq)

    async def settle(self, line: Line) -> None:
        """Wait until all is heard, and no job runs that is about to end by itself.

        `line` is asked what all is; nobody may start jobs meanwhile.
        """
        for room in self.replays:
            await self.reach(room, (await line.call("status", room=room))["seq"])
        await self._until(lambda: not any(map(short_jobs, self.replays.values())))

    async def leave(self) -> None:
        """Hear no more, and keep what was heard."""
        await self.close()
        await asyncio.wait_for(self.task, PATIENCE)

    async def _until(self, check: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            while not check():
                assert not self.task.done(), self.task
                self._moved.clear()
                await self._moved.wait()


class PlainWatcher(Watching, PlainLine):
    """A dashboard over a plain WebSocket."""


class SocketIoWatcher(Watching, SocketIoLine):
    """A dashboard over Socket.IO."""


def short_jobs(replay: Replay) -> list[dict[str, Any]]:
    return [job for job in replay.running.values() if job["time"] < LONG]


async def work(line: Line, ledger: Ledger, chance: random.Random, name: str) -> None:
    """Start, kill and finish jobs of one's own and of everyone until the connection is lost."""
    runs: dict[tuple[str, str], str] = {}
    try:
        while True:
            await step(line, ledger, chance, name, runs)
    except Gone:
        pass


async def step(
    line: Line,
    ledger: Ledger,
    chance: random.Random,
    name: str,
    runs: dict[tuple[str, str], str],
) -> None:
    """Give one command; `runs` are those that this client started, by room and connid."""
    mark, room = ledger.mark(), chance.choice(ROOMS)
    own, everyones = f"{name}-{chance.randrange(2)}", f"shared-{chance.randrange(3)}"
    where = {"room": room, "connid": chance.choice([own, own, everyones])}
    run = runs.get((room, where["connid"]))
    command = chance.choice(["start", "start", "start briefly", "kill", "finish", "finish"])
    if command == "start briefly":
        # Nobody knows its name, so it runs out of time.
        where["connid"] = f"{name} {mark}"
        await ledger.call(line, "request", mark, **where, time=SHORT, note=mark)
    elif command == "start":
        if_running = chance.choice(["reject", "replace", "keep"])
        how = {"time": chance.choice([SHORT, LONG, LONG, LONG]), "if_running": if_running}
        answer = await ledger.call(line, "request", mark, **where, **how, note=mark)
        if answer["ok"]:
            runs[room, where["connid"]] = answer["job"]["run"]
    elif command == "finish" and run is not None:
        await ledger.call(line, "finish", mark, **where, run=run, result=mark)
    else:
        exactly = {} if run is None else {"run": run}
        await ledger.call(line, "kill", mark, **where, **exactly, reason=mark)


async def read_log(line: Line, room: str) -> tuple[list[dict[str, Any]], str]:
    """All events of a room from the first one on, and the epoch."""
    epoch = (await line.call("status", room=room))["epoch"]
    answer = await line.call("status", room=room, since={"epoch": epoch, "seq": 0})
    assert answer["seq"] == len(answer["events"]), "the log is not kept whole"
    return answer["events"], answer["epoch"]


async def fresh_snapshot(url: str, room: str) -> Replay:
    """A room as a client is sent it that was never there before."""
    watcher = PlainWatcher({room: Replay()})
    await watcher.watch(url)
    await watcher.reach(room, 0)
    await watcher.leave()
    assert watcher.replays[room].snapshots == 1
    return watcher.replays[room]


def check_log(events: list[dict[str, Any]], epoch: str) -> Replay:
    """Check that a log is one whole story, and follow it to its end."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    starts = [event["job"]["run"] for event in events if event["event"] == "started"]
    ends = [event["run"] for event in events if event["event"] in ENDS]
    assert len(set(starts)) == len(starts), "a run has started twice"
    assert len(set(ends)) == len(ends), "a run has ended twice"
    replay = Replay()
    replay.hear("snapshot", {"epoch": epoch, "seq": 0, "running": [], "ended": []})
    for event in deepcopy(events):
        replay.hear(event.pop("event"), event)
    assert replay.seq == len(events)
    return replay


def check_promises(ledger: Ledger, room: str, log: Replay) -> None:
    """Check that all that was acknowledged is in the log as it was told, and nothing refused."""
    for mark, answer in ledger.acknowledged:
        if answer["room"] != room:
            continue
        assert answer["seq"] <= log.seq, f"lost: {answer}"
        event, job = log.events[answer["seq"] - 1], answer["job"]
        assert event["event"] == answer["result"], (event, answer)
        assert mark_of(event) == mark, (event, answer)
        if answer["result"] == "started":
            assert event["job"] == job
        else:
            assert log.ends[job["run"]] == job
    done_after_all = ledger.refused.intersection(map(mark_of, log.events))
    assert not done_after_all


def mark_of(event: dict[str, Any]) -> str | None:
    """The mark of the command that caused an event, where a marked one did."""
    if event["event"] == "started":
        return event["job"]["note"]
    return event.get("reason") if event["event"] == "killed" else event.get("result")


def free_port() -> int:
    """A port that no outgoing connection is given by chance while its server is away."""
    for port in random.SystemRandom().sample(range(15_000, 30_000), 100):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


async def finish_all(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Wait for tasks that are about to end, and raise what went wrong in any."""
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks)
