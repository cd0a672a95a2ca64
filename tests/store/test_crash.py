"""What was acknowledged survives `kill -9` at any instant, and everyone sees the same afterwards.

Servers are killed under load again and again; `make soak` makes it ten times as many rounds.
HOURGLASS_SEED repeats the choices of a run that failed, though not its timing.
"""

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Tell
from tests.support.load import (
    ENDS,
    LONG,
    Gone,
    HttpLine,
    Ledger,
    Line,
    PlainLine,
    PlainWatcher,
    Replay,
    SocketIoWatcher,
    Watching,
    finish_all,
    fresh_snapshot,
)
from tests.support.soak import SOAK, rounds
from tests.support.trial import Workers, check_rooms, lasting_server, opened

pytestmark = pytest.mark.slow

ROUNDS = 25 if SOAK else 12
MOST_ROUNDS = 3 * ROUNDS
"""On a machine that is too busy for enough to happen in each round."""
LANES = 2
"""Worlds that live at the same time."""
WORKERS = 12
LONGEST_ROUND = 100
"""Changes that are acknowledged before a kill, at most, and then some milliseconds pass."""
STEADY = "steady"
"""The connid of a job that is never ended, and whose owner reports progress all the time."""


class World:
    """A server on a file that is killed in every round, its clients, and what they were told."""

    def __init__(self, database: Path, seed: str) -> None:
        self.server = lasting_server(database)
        self.seed = seed
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.workers = Workers(self.ledger, self.chance)
        self.watchers: list[Watching] = []
        self.epoch: str | None = None
        self.steady: dict[str, Any] = {}
        self.reported = 0
        self.late = 0
        self.kills = 0

    async def live(self) -> None:
        """Go through all rounds, until enough has happened."""
        async with self.server:
            await self.begin()
            for number in range(MOST_ROUNDS):
                if number >= ROUNDS and min(self.counts().values()) > ROUNDS:
                    break
                self.kills += 1
                changes = self.chance.randrange(LONGEST_ROUND)
                print(f"seed {self.seed}, round {number}: killed after {changes} changes")
                await self.be_killed(changes)
                restarted_at = time.time()
                await self.server.start()
                await self.check(restarted_at)
            await self.leave()

    def counts(self) -> dict[str, int]:
        """How much of each kind has happened that is worth to be checked."""
        results = self.ledger.results()
        acknowledged = {kind: results.count(kind) for kind in ("started", *ENDS)}
        others = {"unknown": self.ledger.unknown, "late": self.late, "reported": self.reported}
        return {**acknowledged, **others}

    async def begin(self) -> None:
        self.watchers = [PlainWatcher(), SocketIoWatcher()]
        for watcher in self.watchers:
            await watcher.watch(self.server.url)
        (line,) = await opened([HttpLine], self.server.url)
        mark = self.ledger.mark()
        steady = {"connid": STEADY, "room": "main", "time": LONG, "note": mark}
        answer = await self.ledger.call(line, "request", mark, **steady)
        self.steady, self.epoch = answer["job"], answer["epoch"]
        await line.close()

    async def be_killed(self, changes: int) -> None:
        """Let everyone work, and kill the server meanwhile, after so many changes."""
        (owner,) = await opened([PlainLine], self.server.url)
        await self.workers.begin(self.server.url, WORKERS)
        reporting = asyncio.create_task(self.report(owner))
        await self.workers.until_acknowledged(changes)
        await asyncio.sleep(self.chance.uniform(0, 0.01))
        await self.server.kill()
        await self.workers.leave()
        await finish_all([reporting, *(watcher.task for watcher in self.watchers)])
        for line in (owner, *self.watchers):
            await line.close()

    async def report(self, line: Line) -> None:
        """Report progress until the connection is lost; `reported` is what was acknowledged."""
        try:
            while True:
                what = {"run": self.steady["run"], "note": str(self.reported + 1)}
                answer = await line.call("progress", connid=STEADY, room="main", **what)
                assert answer["ok"], answer
                self.reported += 1
        except Gone:
            pass

    async def check(self, restarted_at: float) -> None:
        """Hold the server that has come back to all that it said before it was killed."""
        heard = [dict(watcher.replays) for watcher in self.watchers]
        (line,) = await opened([HttpLine], self.server.url)
        await self.come_back(line)
        for room, log in (await check_rooms(line, self.ledger, self.epoch)).items():
            self.late += check_late(log, restarted_at)
            await self.check_equal(room, log)
            for replays in heard:
                check_heard(replays[room], log)
        await self.check_progress(line)
        await line.close()

    async def come_back(self, line: Line) -> None:
        """Let the watchers connect again from where they were, and what is due come to its end."""
        for position, watcher in enumerate(self.watchers):
            snapshots = [replay.snapshots for replay in watcher.replays.values()]
            again = self.watchers[position] = type(watcher)(watcher.replays)
            await again.watch(self.server.url)
            await again.settle(line)
            assert [replay.snapshots for replay in again.replays.values()] == snapshots, (
                "what was missed is kept, so it is sent"
            )

    async def check_equal(self, room: str, log: Replay) -> None:
        """The log, a new client and those that have come back all tell the same."""
        fresh = await fresh_snapshot(self.server.url, room)
        for watcher in self.watchers:
            await watcher.reach(room, fresh.seq)
            assert watcher.replays[room].epoch == fresh.epoch == log.epoch
            assert watcher.replays[room].state() == fresh.state()
        if room == "main":
            log.running[STEADY]["progress"] = fresh.running[STEADY]["progress"]
        assert log.state() == fresh.state()

    async def check_progress(self, line: Line) -> None:
        """The last report that was acknowledged is kept, or the one that was on its way."""
        status = await line.call("status", room="main")
        (job,) = [job for job in status["jobs"] if job["connid"] == STEADY]
        assert job["run"] == self.steady["run"]
        last = int(job["progress"]["note"]) if job["progress"] else 0
        assert last in (self.reported, self.reported + 1)
        self.reported = last

    async def leave(self) -> None:
        for watcher in self.watchers:
            await watcher.leave()


def check_late(log: Replay, restarted_at: float) -> int:
    """Check that what came due while the server was away has ended late; how much that is."""
    assert not [job for job in log.running.values() if job["deadline"] <= restarted_at]
    missed = [
        job
        for job in log.ends.values()
        if job["outcome"] == "elapsed" and job["deadline"] <= restarted_at <= job["ended_at"]
    ]
    assert all(job["late"] for job in missed)
    return len(missed)


def check_heard(replay: Replay, log: Replay) -> None:
    """Check that a client was told nothing that is not in the log."""
    for event in replay.events:
        assert log.events[event["seq"] - 1] == event
    replay.events.clear()


async def test_what_was_acknowledged_survives_a_kill_at_any_instant(
    tmp_path: Path, tell: Tell
) -> None:
    seed = os.environ.get("HOURGLASS_SEED") or str(time.time_ns())
    worlds: list[World] = []
    for number in rounds(1, 10):
        names = [f"{number}-{lane}" for lane in range(LANES)]
        living = [World(tmp_path / f"{name}.db", f"{seed}/{name}") for name in names]
        worlds += living
        # Not in a `TaskGroup`: cancelled while it starts a process, a world would leave it behind.
        for outcome in await asyncio.gather(*(w.live() for w in living), return_exceptions=True):
            if outcome is not None:
                raise outcome
    promised = 0
    for world in worlds:
        print(world.kills, world.counts())
        assert min(world.counts().values()) > ROUNDS
        promised += len(world.ledger.results())
    kills = sum(world.kills for world in worlds)
    tell(f"{kills} kills among {promised} acknowledged changes: nothing was lost")
