"""Three servers on one Redis, and all that can befall them, while clients work and watch.

HOURGLASS_SOAK=1 makes it many more rounds with hundreds of clients, and HOURGLASS_SEED repeats the
choices of a run that failed, though not its timing.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.support.load import (
    ENDS,
    LINES,
    LONG,
    ROOMS,
    Gone,
    HttpLine,
    Ledger,
    Line,
    PlainWatcher,
    Replay,
    SocketIoWatcher,
    Watching,
    check_log,
    check_promises,
    finish_all,
    free_port,
    fresh_snapshot,
    read_log,
    work,
)
from tests.support.network import Proxy
from tests.support.redis import RedisServer
from tests.support.servers import Process, eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]

SOAK = os.environ.get("HOURGLASS_SOAK") == "1"
ROUNDS = 30 if SOAK else 1
WATCHERS = 200 if SOAK else 30
WORKERS = 4 if SOAK else 12
"""Few beside hundreds who watch: what the clients do not keep up with would look like trouble."""
PATIENCE = 60
SETTINGS = {
    "HISTORY": "1000000",
    # Hundreds who watch keep the loop of the test busy, through which all goes to Redis.
    "REDIS_TIMEOUT": "4" if SOAK else "1",
    "REDIS_HEARTBEAT": "0.2",
    "REDIS_DEAF": "4" if SOAK else "1",
}


class Node:
    """A server process, with a network of its own between it and Redis."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.proxy = Proxy(redis.url)
        self._folder = folder
        self.process: Process

    @property
    def url(self) -> str:
        return self.process.url

    @asynccontextmanager
    async def living(self) -> AsyncIterator["Node"]:
        async with self.proxy:
            self.process = Process(self._folder / "none.db", REDIS_URL=self.proxy.url, **SETTINGS)
            self.process.port = free_port()
            async with self.process:
                yield self


class Cluster:
    """The servers, their Redis and their clients, and what these were told."""

    def __init__(self, redis: RedisServer, nodes: list[Node], seed: str) -> None:
        self.redis = redis
        self.nodes = nodes
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.replays: list[dict[str, Replay]] = []
        self.over = asyncio.Event()
        self.resting = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Let everyone work and watch."""
        for number in range(WATCHERS):
            kind = (PlainWatcher, SocketIoWatcher)[number % 2]
            self.replays.append({room: Replay() for room in ROOMS})
            self._tasks.append(asyncio.create_task(self._watch(kind, self.replays[-1])))
        for number in range(WORKERS):
            kind_of_line = LINES[number % len(LINES)]
            work = self._work(kind_of_line, f"client-{number}")
            self._tasks.append(asyncio.create_task(work))

    async def end(self) -> None:
        """Let everyone leave."""
        self.over.set()
        self.resting.set()
        await finish_all(self._tasks)

    async def settle(self) -> list[Line]:
        """Let nobody work any more, and wait until all servers are well; a line to each."""
        self.resting.set()
        lines = [await self._open(node) for node in self.nodes]
        for line in lines:
            await until(partial(well, line))
        for room in ROOMS:
            await until(partial(quiet, lines[0], room))
        return lines

    async def check(self) -> None:
        """Hold the servers to all that they said, and each dashboard to the log."""
        lines = await self.settle()
        for room in ROOMS:
            logs = [await read_log(line, room) for line in lines]
            assert all(log == logs[0] for log in logs), "the servers tell different logs"
            events, epoch = logs[0]
            log = check_log(events, epoch)
            check_promises(self.ledger, room, log)
            await self._check_dashboards(room, log)
        for line in lines:
            await line.close()

    def counts(self) -> dict[str, int]:
        """How many changes of each kind were acknowledged."""
        results = self.ledger.results()
        return {kind: results.count(kind) for kind in ("started", *ENDS)}

    async def _check_dashboards(self, room: str, log: Replay) -> None:
        for node in self.nodes:
            fresh = await fresh_snapshot(node.url, room)
            assert (fresh.epoch, fresh.state()) == (log.epoch, log.state())
        shown = [replays[room] for replays in self.replays]
        await eventually(lambda: all(replay.seq >= log.seq for replay in shown), PATIENCE)
        for replays in self.replays:
            assert (replays[room].epoch, replays[room].state()) == (log.epoch, log.state())

    async def _open(self, node: Node) -> Line:
        line = HttpLine()
        await line.open(node.url)
        return line

    async def _watch(self, kind: type[Watching], replays: dict[str, Replay]) -> None:
        """Watch on one server after the other, always going on from where it was."""
        while not self.over.is_set():
            watcher = kind(replays)
            try:
                await watcher.watch(self.chance.choice(self.nodes).url)
            except (OSError, aiohttp.ClientError, Gone):
                await asyncio.sleep(0.1)
                continue
            over = asyncio.create_task(self.over.wait())
            await asyncio.wait([watcher.task, over], return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            await watcher.leave()

    async def _work(self, kind: type[Line], name: str) -> None:
        while not self.resting.is_set():
            line = kind()
            try:
                await line.open(self.chance.choice(self.nodes).url, rooms=[])
            except (OSError, aiohttp.ClientError, Gone):
                await asyncio.sleep(0.1)
                continue
            working = asyncio.create_task(work(line, self.ledger, self.chance, name))
            resting = asyncio.create_task(self.resting.wait())
            await asyncio.wait([working, resting], return_when=asyncio.FIRST_COMPLETED)
            resting.cancel()
            if not working.done():
                # What it waits for now is one more command of which nobody knows what became.
                working.cancel()
            with suppress(asyncio.CancelledError):
                await working
            await line.close()

    # What befalls them.

    async def kill_a_server(self) -> None:
        node = self.chance.choice(self.nodes)
        await node.process.kill()
        await asyncio.sleep(self.chance.uniform(0, 1))
        await node.process.start()

    async def kill_all_connections(self) -> None:
        for _ in range(5):
            await self.redis.call("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(self.chance.uniform(0, 0.1))

    async def restart_redis(self) -> None:
        self.redis.kill()
        await asyncio.sleep(self.chance.uniform(0, 1.5))
        await asyncio.to_thread(self.redis.start)

    async def pause_redis(self) -> None:
        pause = self.chance.choice([300, 1500])
        await self.redis.call("CLIENT", "PAUSE", pause, "ALL")
        await asyncio.sleep(pause / 1000)

    async def stop_redis_for_a_while(self) -> None:
        self.redis.signal(signal.SIGSTOP)
        await asyncio.sleep(self.chance.choice([0.3, 1.5]))
        self.redis.signal(signal.SIGCONT)

    async def cut_a_server_off(self) -> None:
        node = self.chance.choice(self.nodes)
        node.proxy.cut()
        await asyncio.sleep(self.chance.uniform(0, 2))
        node.proxy.mend()

    async def hold_what_a_server_sends(self) -> None:
        node = self.chance.choice(self.nodes)
        node.proxy.hold()
        await asyncio.sleep(self.chance.uniform(0, 2))
        node.proxy.mend()

    async def lose_what_a_server_is_answered(self) -> None:
        node = self.chance.choice(self.nodes)
        node.proxy.loses_replies = True
        await asyncio.sleep(self.chance.uniform(0, 1))
        node.proxy.mend()
        node.proxy.drop()

    def troubles(self) -> list[Callable[[], Awaitable[None]]]:
        """All of the above, in some order."""
        every: list[Callable[[], Awaitable[None]]] = [
            self.kill_a_server,
            self.kill_all_connections,
            self.restart_redis,
            self.pause_redis,
            self.stop_redis_for_a_while,
            self.cut_a_server_off,
            self.hold_what_a_server_sends,
            self.lose_what_a_server_is_answered,
        ]
        self.chance.shuffle(every)
        return every


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until what is asked again and again is true."""
    async with asyncio.timeout(PATIENCE):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def well(line: Line) -> bool:
    """Whether a server can read its store."""
    return (await line.call("status", room="main"))["ok"]


async def quiet(line: Line, room: str) -> bool:
    """Whether no job is about to end by itself."""
    jobs = (await line.call("status", room=room))["jobs"]
    return all(job["time"] >= LONG for job in jobs)


@asynccontextmanager
async def cluster(folder: Path, number: int = 3) -> AsyncIterator[Cluster]:
    """Servers on a Redis that keeps its data, with clients that work and watch."""
    seed = os.environ.get("HOURGLASS_SEED") or str(time.time_ns())
    print("seed", seed)
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer(folder, keeps=True))
        nodes = []
        for _ in range(number):
            nodes.append(await stack.enter_async_context(Node(folder, redis).living()))
        found = Cluster(redis, nodes, seed)
        found.begin()
        try:
            yield found
        finally:
            await found.end()


async def test_whatever_befalls_them_what_was_said_stands(tmp_path: Path) -> None:
    async with cluster(tmp_path) as world:
        for number in range(ROUNDS):
            for trouble in world.troubles():
                print(f"round {number}: {trouble.__name__}")
                await asyncio.sleep(world.chance.uniform(0.1, 0.5))
                await trouble()
        # However slow the machine is, there has to be enough to check.
        await eventually(lambda: min(world.counts().values()) > 20, PATIENCE)
        await asyncio.sleep(1)
        await world.check()
        print(world.counts(), world.ledger.unknown)


async def test_servers_that_restart_in_turn_are_not_missed(tmp_path: Path) -> None:
    async with cluster(tmp_path) as world:
        for _ in range(ROUNDS):
            for node in world.nodes:
                await asyncio.sleep(0.3)
                assert await node.process.terminate() == 0
                await node.process.start()
        await world.check()
        # Nobody had to begin anew: each was sent what it had missed.
        assert {replay.snapshots for replays in world.replays for replay in replays.values()} == {1}
