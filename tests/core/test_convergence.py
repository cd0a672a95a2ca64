"""Clients that drop, lag and come back at random end up with the server's state."""

import asyncio
import os
import random
from contextlib import suppress
from typing import Any

import pytest

from server.app import App
from tests.conftest import Connect, Settings
from tests.support.clients import CLIENTS, TestClient
from tests.support.replay import Dashboard
from tests.support.servers import command, eventually, serving

pytestmark = [pytest.mark.each_store, pytest.mark.slow]

SOAK = bool(os.environ.get("HOURGLASS_SOAK"))
DASHBOARDS = 30 if SOAK else 8
COMMANDS = 5_000 if SOAK else 600
KINDS = ["websocket", "python", "polling"]


class Wanderer:
    """A dashboard whose connection breaks at random, and which comes back from where it was."""

    def __init__(self, app: App, seed: int) -> None:
        self.app = app
        self.order = random.Random(seed)
        self.dashboard = Dashboard()
        self.client: TestClient | None = None

    async def wander(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await self.connect()
            await asyncio.sleep(self.order.uniform(0, 0.3))
            if self.order.random() < 0.5:
                await self.rejoin()
            if self.order.random() < 0.8:
                await self.drop()

    async def connect(self) -> None:
        if self.client is None:
            self.client = CLIENTS[self.order.choice(KINDS)]()
            self.client.heard = self.dashboard.hear  # type: ignore[method-assign]
            since = self.dashboard.since if self.order.random() < 0.8 else None
            hello = {"since": {"main": since}} if since else {}
            await self.client.connect(self.app.url, **hello)

    async def rejoin(self) -> None:
        """Take the same events again, or a snapshot: neither may harm."""
        assert self.client is not None
        since = self.order.choice([self.dashboard.since, None])
        await self.client.command("join", {"room": "main", "since": since})

    async def drop(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            await client.close()


async def keep_busy(app: App, order: random.Random) -> None:
    """Random starts, ends and reports, some of them at once."""
    for _ in range(COMMANDS):
        connid = str(order.randrange(30))
        running = (await app.store.board("main")).running.get(connid)
        run = running.run if running else "none"
        choices: list[tuple[str, dict[str, Any]]] = [
            ("request", {"time": order.choice([0.05, 0.3, 60])}),
            ("request", {"time": 60, "if_running": "replace"}),
            ("kill", {"reason": "random"}),
            ("finish", {"run": run, "result": order.random()}),
            ("progress", {"run": run, "done": order.random()}),
            ("stopped", {"run": run, "exit": 0}),
        ]
        name, fields = order.choice(choices)
        await command(app, name, connid=connid, **fields)
        if order.random() < 0.1:
            await asyncio.sleep(0.01)


async def snapshot_of(connect: Connect, app: App) -> Dashboard:
    fresh = Dashboard()
    client = await connect(app.url, "websocket")
    fresh.hear("snapshot", await client.event("snapshot"))
    return fresh


async def test_all_converge_to_the_state_of_the_server(connect: Connect, kept: Settings) -> None:
    # Little is kept, so that some who come back are sent events and others a snapshot.
    bounds = {"history": 100, "replay": 50, "max_backlog": 20_000}
    async with serving(**kept, **bounds, rate_limit=0) as app:
        wanderers = [Wanderer(app, seed) for seed in range(DASHBOARDS)]
        done = asyncio.Event()
        wandering = [asyncio.create_task(wanderer.wander(done)) for wanderer in wanderers]
        await keep_busy(app, random.Random(5))
        done.set()
        await asyncio.gather(*wandering)
        await asyncio.gather(*(wanderer.connect() for wanderer in wanderers))
        await settled(app)
        for wanderer in wanderers:
            await wanderer.rejoin()
        fresh = await snapshot_of(connect, app)
        try:
            for wanderer in wanderers:
                assert await agrees(wanderer.dashboard, fresh), shown(wanderer.dashboard)
        finally:
            await asyncio.gather(*(wanderer.drop() for wanderer in wanderers))


async def agrees(dashboard: Dashboard, fresh: Dashboard) -> bool:
    """Whether they come to show the same; a last report may be on its way for a moment."""
    with suppress(TimeoutError):
        await eventually(lambda: shown(dashboard) == shown(fresh))
    return dashboard.epoch == fresh.epoch and shown(dashboard) == shown(fresh)


def shown(dashboard: Dashboard) -> dict[str, Any]:
    """What two dashboards must agree on: of an ended job, its last report may have been missed."""
    state = dashboard.state()
    return {**state, "ended": [{**job, "progress": None} for job in state["ended"]]}


async def settled(app: App) -> None:
    """Wait until no timeout is near, so that the server's state stands still."""

    board = await app.store.board("main")
    await eventually(lambda: not any(job.time < 1 for job in board.running.values()))
