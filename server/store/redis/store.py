"""The store that many servers share: Redis decides by scripts, and every node follows its feed.

A change is one script: it checks, changes, takes the next seq and appends the event to the room's
log and to the feed, whole or not at all. The feed is one stream for all rooms; its entries are
numbered without holes, so that a node knows when it has missed any. A node holds the boards of the
rooms that it was asked for, and brings them forward by what it hears; a command is answered when
the node has heard what came of it.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from server.board import ENDED_SHOWN, Board
from server.clock import Clock
from server.config import Config
from server.contract.messages import EndedJob, Job, Presence, Printed
from server.counters import Histogram
from server.errors import CommandError, Unavailable
from server.store.interface import (
    AmendJob,
    Annotation,
    Change,
    Due,
    Entry,
    Foreign,
    Listener,
    Record,
    Repeated,
    ReportProgress,
    Stale,
    StartJob,
    Store,
    StoreError,
    Submitted,
    check_whole,
    ignore,
    queue_full,
)
from server.store.redis import scripts
from server.store.redis.boards import SharedBoards
from server.store.redis.calls import Calls, Phase
from server.store.redis.follower import Follower
from server.store.redis.membership import Membership
from server.store.redis.next_due import NextDue
from server.store.redis.pending_acks import PendingAck

log = logging.getLogger(__name__)

OLDEST = (6, 2)
"""The first version of Redis that has all that the scripts use."""
START = 3
"""Times `REDIS_TIMEOUT` that a server waits for Redis when it starts."""


class RedisStore(Store):
    """Redis at `REDIS_URL`."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """`clock` goes on from what the other nodes say, and begins by itself where none is."""
        self._config = config
        self.clock = clock
        self.now = clock.now
        self.ready = False
        self.commits = Histogram()
        self._calls = Calls(config, clock)
        self.node = self._calls.node
        self._boards = SharedBoards(self, config)
        self._due = NextDue(self.node, self.now)
        self._membership = Membership(self._calls, config, clock, self._due)
        self._follower = Follower(
            self._calls, config, self._boards, self._membership, self._due, self._note_ready
        )
        self._lines: list[asyncio.Task[None]] = []
        self.takes = 0
        self.takes_in_vain = 0

    @property
    def epoch(self) -> str:
        return self._calls.epoch

    @epoch.setter
    def epoch(self, epoch: str) -> None:
        self._calls.epoch = epoch

    def _note_ready(self, ready: bool) -> None:
        self.ready = ready

    async def open(self, listener: Listener, record: Record = ignore) -> None:
        self._listener = self._boards.listener = self._follower.listener = listener
        self._record = record
        self._lines = self._calls.start()
        until = asyncio.get_running_loop().time() + START * self._config.redis_timeout
        try:
            while True:
                try:
                    await self._check_version()
                    await self._follower.begin()
                    await self._membership.beat()
                    break
                except Unavailable as error:
                    if asyncio.get_running_loop().time() > until:
                        why = str(self._calls.trouble or error) or "no answer"
                        where = self._calls.endpoint.shown
                        raise StoreError(f"Redis at {where} cannot be used: {why}") from error
        except BaseException:
            await self._end()
            raise
        self._follower.begun()

    async def ping(self) -> None:
        await self._calls.ask("PING")

    async def _check_version(self) -> None:
        info = (await self._calls.ask("INFO", "server")).decode()
        version = info.partition("redis_version:")[2].split("\r")[0]
        if tuple(map(int, version.split(".")[:2])) < OLDEST:
            raise StoreError(f"Redis is version {version}, and 6.2 or newer is needed")
        memory = (await self._calls.ask("INFO", "memory")).decode()
        policy = memory.partition("maxmemory_policy:")[2].split("\r")[0]
        if policy not in ("", "noeviction"):
            log.error(
                "Redis evicts keys when it is full (maxmemory-policy %s), which loses jobs: set it"
                " to noeviction",
                policy,
            )

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follower.run())
                tasks.create_task(self._membership.run(self._boards.release_idle))
                for line in self._lines:
                    tasks.create_task(self._watch(line))
        finally:
            await self._end()

    async def _watch(self, line: "asyncio.Task[None]") -> None:
        await asyncio.shield(line)

    async def _end(self) -> None:
        """Close all connections and timers."""
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await self._follower.close()
        await self._calls.close()

    async def close(self) -> None:
        self._calls.phase = Phase.CLOSING
        await self._calls.finish_changes()
        while self._follower.acks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        with suppress(Unavailable):
            await self._membership.leave()
        self._calls.phase = Phase.CLOSED
        await self._calls.finish_questions()

    def submit(self, change: Change) -> Submitted:
        return self._submit(change)

    async def annotate(self, change: Annotation) -> list[Entry]:
        return await self._submit(change)

    def _submit(self, change: Change | AmendJob) -> Submitted:
        loop = asyncio.get_running_loop()
        completion = Submitted(change=change)
        began = loop.time()
        deadline = began + self._config.redis_timeout
        if self._calls.phase is not Phase.OPEN:
            completion.reject(Unavailable("the server is stopping"))
            return completion
        if self._calls.waiting >= self._config.max_pending:
            completion.reject(queue_full(self._config))
            return completion

        def take(reply: Any, error: Exception | None) -> None:
            if error is not None:
                completion.reject(error)
                return
            try:
                self._calls.check(reply)
                entries = scripts.changed(reply, self._config)
            except (Stale, Foreign, Repeated, CommandError) as refusal:
                completion.reject(refusal)
                return
            self.commits.observe(loop.time() - began)
            if entries:
                self._record(entries, change.actor)
            number = reply[1]
            self._follower.changed(room_of(change), seq_of(reply), number)
            self._follower.acks.add(PendingAck(number, completion, entries, deadline))

        self._calls.change(scripts.arguments(change, self._config), take, deadline)
        return completion

    def begin_leases_anew(self) -> None:
        """The scripts notice by themselves when no node was there, or this one stood still."""

    def keep_drift(self, drift: float) -> None:
        """It is not needed: the time is kept with each event."""

    async def start_once(self, change: StartJob) -> list[Entry]:
        return await self.submit(change)

    async def take_due(self, limit: int) -> list[Due]:
        if not self._due.come():
            return []
        try:
            claim, silence = repr(self._config.redis_claim), repr(self._membership.silence)
            reply = await self._calls.order("take", limit, claim, silence)
        except Unavailable:
            await asyncio.sleep(self._config.retry_interval)
            return []
        self._due.learn_taken(reply[1], reply[4])
        for member in reply[5]:
            log.error("%s is gone from Redis, and so is its start: it is dropped", member.decode())
        due = scripts.taken(reply)
        self.takes += 1
        self.takes_in_vain += not due
        return due

    async def until_due(self, most: float) -> None:
        await self._due.wait(most)

    async def counts(self) -> Mapping[str, int]:
        reply = await self._calls.call("counts")
        return {room.decode(): number for room, number in scripts.pairs(reply[1]).items()}

    async def running(self, room: str, connid: str) -> Job | None:
        return scripts.looked(await self._calls.order("look", room, connid))

    async def ended(self, room: str, connid: str, run: str | None = None) -> EndedJob | None:
        reply = await self._calls.call("history", room, connid, run or "", "", 1)
        for job in scripts.ended(reply[1]):
            if job.connid == connid:
                return job
        return None

    async def board(self, room: str) -> Board:
        return await self._boards.get(room)

    @property
    def held(self) -> Mapping[str, int]:
        return {"ended": self._boards.held, "output": 0}

    async def seq(self, room: str) -> int:
        board = self._boards.find(room)
        if board is not None:
            return board.seq
        seq = self._follower.seq(room)
        return await self.last_seq(room) if seq is None else seq

    async def sweep(self) -> None:
        cursor = b"0"
        while True:
            reply = await self._calls.call("sweep", cursor, repr(self._config.room_retention))
            self.rooms_evicted += reply[2]
            cursor = reply[1]
            if cursor == b"0":
                return

    def announce(self, presence: Presence) -> None:
        self._membership.announce(presence)

    async def print(
        self, room: str, connid: str, run: str, text: str, owner: str | None = None
    ) -> None:
        keep = (self._config.max_output, int(self._config.output_retention) or 1)
        what = (room, connid, run, text, len(text), *keep)
        scripts.check(await self._calls.write("print", *what, last=scripts.owned(owner)))

    async def printed(self, room: str, run: str, after: int = 0) -> Printed:
        return scripts.printed(await self._calls.call("printed", room, run), after)

    async def read(self, room: str, after: int) -> list[Entry] | None:
        reply = await self._calls.call("log", room, after, self._config.history)
        if reply[0] == b"gone":
            return None
        try:
            entries = scripts.logged(reply[1])
            check_whole(entries, after, 0)
        except Exception as error:
            log.error("the log of %s cannot be read after %d: %s", room, after, error)
            return None
        return entries

    async def read_run(self, room: str, connid: str, run: str) -> list[Entry]:
        entries = scripts.entries((await self._calls.call("run", room, connid, run))[1])
        board = self._boards.find(room)
        if board is not None and entries:
            await self._boards.reach(board, entries[-1].event.seq)
        return entries

    async def history(
        self, room: str, connid: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        asked = (connid or "", "", "" if before is None else before, limit)
        return scripts.ended((await self._calls.call("history", room, *asked))[1])

    async def last_seq(self, room: str) -> int:
        seq: int = (await self._calls.call("seq", room))[1]
        return seq

    async def read_board(self, room: str, epoch: str | None = None) -> list[Any]:
        reply: list[Any] = await self._calls.call("board", room, ENDED_SHOWN, epoch=epoch)
        return reply


def room_of(change: Change | AmendJob) -> str:
    """The room that a change is in."""
    if isinstance(change, StartJob):
        return change.job.room
    return change.progress.room if isinstance(change, ReportProgress) else change.room


def seq_of(reply: list[Any]) -> int:
    """The seq at which the room stands after a change."""
    events = reply[2]
    seq: int = events[-1][1] if events else reply[3]
    return seq
