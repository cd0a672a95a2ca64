"""The store that many servers share: Redis decides by scripts, and every node follows its feed.

A change is one script: it checks, changes, takes the next seq and appends the event to the room's
log and to the feed, whole or not at all. The feed is one stream for all rooms; its entries are
numbered without holes, so that a node knows when it has missed any. A node holds the boards of the
rooms that it was asked for, and brings them forward by what it hears; a command is answered when
the node has heard what came of it.
"""

import asyncio
import logging
import secrets
import time
from asyncio import Future
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from server.board import ENDED_SHOWN, Board
from server.clock import Clock
from server.config import Config
from server.contract.messages import EndedJob, Job, Presence, Printed, encode
from server.counters import Histogram
from server.errors import CommandError, Unavailable
from server.store.completion import notify_all
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
from server.store.redis.boards import SharedBoards, refuse
from server.store.redis.clock import TheirClock
from server.store.redis.connections import LOST, Ask, Orders, RedisEndpoint, evaluate
from server.store.redis.feed import Feed, Item, Missed
from server.store.redis.next_due import NextDue
from server.store.redis.pending_acks import PendingAck
from server.store.redis.scripts import Arg

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
        self._theirs = TheirClock()
        self.clock = clock
        self.now = clock.now
        # Whether the nodes' time is known.
        self._in_time = False
        self.ready = False
        self.commits = Histogram()
        # Sorts by age, so that all agree on who comes first.
        self.node = f"{int(time.time() * 1000):012x}{secrets.token_hex(4)}"
        self._prefix = f"{{{config.redis_prefix}}}:"
        self._endpoint = RedisEndpoint(config)
        # Apart, so that a big answer does not hold up the changes.
        self._orders = Orders(self._endpoint, config.redis_timeout)
        self._questions = Orders(self._endpoint, config.redis_timeout)
        self._lines: list[asyncio.Task[None]] = []
        self._feed = Feed(
            self._endpoint, f"{self._prefix}feed", config.redis_timeout, config.redis_heartbeat
        )
        self._boards = SharedBoards(self, config)
        self._seqs: dict[str, int] = {}
        self._pending_acks: deque[PendingAck] = deque()
        self._changes = 0
        self._here: dict[str, Presence] = {}
        self._due = NextDue(self.node, self.now)
        self._heard_at = 0.0
        self._beat_now = asyncio.Event()
        # Signs of life so far; those before it had found back to the feed say nothing of it.
        self._beats = self._beats_before = 0
        # Set when the log may be another than before, and when some of the feed was missed.
        self._doubtful = False
        self._missed = False
        # What was told of whether the log is in reach, and what is about to be.
        self._reachable = True
        self._telling: asyncio.TimerHandle | None = None
        self._told_timer: asyncio.TimerHandle | None = None
        self._unannounced = False
        self._closed = False
        self._stopped = False
        self.takes = 0
        self.takes_in_vain = 0

    async def open(self, listener: Listener, record: Record = ignore) -> None:
        self._listener = self._boards.listener = listener
        self._record = record
        self._lines = [
            asyncio.create_task(orders.run()) for orders in (self._orders, self._questions)
        ]
        until = asyncio.get_running_loop().time() + START * self._config.redis_timeout
        try:
            while True:
                try:
                    await self._check_version()
                    await self._begin()
                    await self._beat()
                    break
                except Unavailable as error:
                    if asyncio.get_running_loop().time() > until:
                        why = str(self._questions.trouble or error) or "no answer"
                        where = self._endpoint.shown
                        raise StoreError(f"Redis at {where} cannot be used: {why}") from error
        except BaseException:
            await self._end()
            raise
        self._heard_at = asyncio.get_running_loop().time()
        self.ready = True

    async def ping(self) -> None:
        await self._ask("PING")

    async def _check_version(self) -> None:
        info = (await self._ask("INFO", "server")).decode()
        version = info.partition("redis_version:")[2].split("\r")[0]
        if tuple(map(int, version.split(".")[:2])) < OLDEST:
            raise StoreError(f"Redis is version {version}, and 6.2 or newer is needed")

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._live())
                for line in self._lines:
                    tasks.create_task(self._watch(line))
        finally:
            await self._end()

    async def _watch(self, line: "asyncio.Task[None]") -> None:
        await asyncio.shield(line)

    async def _end(self) -> None:
        """Close all connections and timers."""
        for timer in (self._telling, self._told_timer):
            if timer is not None:
                timer.cancel()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await self._feed.line.close()
        await self._endpoint.close()

    async def close(self) -> None:
        self._closed = True
        await self._orders.rest()
        while self._pending_acks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        with suppress(Unavailable):
            await self._call("bye", self.node)
        self._stopped = True
        await self._questions.rest()

    def submit(self, change: Change) -> Submitted:
        return self._submit(change)

    async def annotate(self, change: Annotation) -> list[Entry]:
        return await self._submit(change)

    def _submit(self, change: Change | AmendJob) -> Submitted:
        loop = asyncio.get_running_loop()
        completion = Submitted(change=change)
        began = loop.time()
        deadline = began + self._config.redis_timeout
        if self._closed:
            completion.reject(Unavailable("the server is stopping"))
            return completion
        if len(self._orders) >= self._config.max_pending:
            completion.reject(queue_full(self._config))
            return completion

        def take(reply: Any, error: Exception | None) -> None:
            if error is not None:
                completion.reject(error)
                return
            try:
                self._check(reply)
                entries = scripts.changed(reply, self._config)
            except (Stale, Foreign, Repeated, CommandError) as refusal:
                completion.reject(refusal)
                return
            self.commits.observe(loop.time() - began)
            if entries:
                self._record(entries, change.actor)
            room = room_of(change)
            if reply[1] > self._feed.position:  # Else the feed has said it, or what came later.
                self._seqs[room] = max(self._seqs.get(room, 0), seq_of(reply))
            self._answer(PendingAck(reply[1], completion, entries, deadline))

        self._changes += 1
        # Later than this it is not done any more: it may have been answered `unavailable`.
        latest = repr(self._theirs.now() + 0.75 * self._config.redis_timeout)
        args = scripts.arguments(change, self._config)
        # The turn is filled in when it is sent.
        fixed = (self.node, self._changes, 0, latest, self._config.history)
        self._orders.ask(Ask(self._evaluate("change", *fixed, *args), take, deadline, change=True))
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
            claim, silence = repr(self._config.redis_claim), repr(self._silence)
            reply = await self._order("take", limit, claim, silence)
        except Unavailable:
            await asyncio.sleep(self._config.retry_interval)
            return []
        self._due.learn_taken(reply[1], reply[4])
        due = scripts.taken(reply)
        self.takes += 1
        self.takes_in_vain += not due
        return due

    async def until_due(self, most: float) -> None:
        await self._due.wait(most)

    async def counts(self) -> Mapping[str, int]:
        reply = await self._call("counts")
        return {room.decode(): number for room, number in scripts.pairs(reply[1]).items()}

    async def running(self, room: str, connid: str) -> Job | None:
        return scripts.looked(await self._order("look", room, connid))

    async def ended(self, room: str, connid: str, run: str | None = None) -> EndedJob | None:
        reply = await self._call("history", room, connid, run or "", "", 1)
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
        return self._seqs[room] if room in self._seqs else await self.last_seq(room)

    async def sweep(self) -> None:
        cursor = b"0"
        while True:
            reply = await self._call("sweep", cursor, repr(self._config.room_retention))
            self.rooms_evicted += reply[2]
            cursor = reply[1]
            if cursor == b"0":
                return

    def announce(self, presence: Presence) -> None:
        self._here[presence.room] = presence
        self._announce(presence)

    async def print(
        self, room: str, connid: str, run: str, text: str, owner: str | None = None
    ) -> None:
        keep = (self._config.max_output, int(self._config.output_retention) or 1)
        self._changes += 1
        once = (
            self.node,
            self._changes,
            repr(self._theirs.now() + 0.75 * self._config.redis_timeout),
        )
        what = (room, connid, run, text, len(text), *keep, *once, *scripts.owned(owner))
        command = self._evaluate("print", *what)
        scripts.check(self._check(await self._put(self._orders, command, writes=True)))

    async def printed(self, room: str, run: str, after: int = 0) -> Printed:
        return scripts.printed(await self._call("printed", room, run), after)

    async def read(self, room: str, after: int) -> list[Entry] | None:
        reply = await self._call("log", room, after, self._config.history)
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
        entries = scripts.entries((await self._call("run", room, connid, run))[1])
        board = self._boards.find(room)
        if board is not None and entries:
            await self._boards.reach(board, entries[-1].event.seq)
        return entries

    async def history(
        self, room: str, connid: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        asked = (connid or "", "", "" if before is None else before, limit)
        return scripts.ended((await self._call("history", room, *asked))[1])

    # What is asked of Redis.

    def _evaluate(self, name: str, *args: Arg, epoch: str | None = None) -> list[Arg]:
        now = repr(self.now()) if self._in_time else ""
        fixed = (epoch or self.epoch, now, self._config.redis_feed)
        return evaluate(name, self._prefix, *fixed, *args)

    async def _order(self, name: str, *args: Arg) -> Any:
        """Run a script after all changes that were asked for before."""
        return self._check(await self._put(self._orders, self._evaluate(name, *args)))

    async def _call(self, name: str, *args: Arg, epoch: str | None = None) -> Any:
        """Run a script that may be run again when nobody knows whether it was."""
        return self._check(await self._ask(*self._evaluate(name, *args, epoch=epoch)))

    async def _ask(self, *command: Arg) -> Any:
        """Give a command that may be given again when nobody knows whether it was."""
        if self._stopped:
            raise Unavailable("the server is stopping")
        return await self._put(self._questions, list(command))

    def _put(self, orders: Orders, command: list[Arg], *, writes: bool = False) -> Future[Any]:
        loop = asyncio.get_running_loop()
        future: Future[Any] = loop.create_future()

        def take(reply: Any, error: Exception | None) -> None:
            if error is not None:
                refuse(future, error)
            elif not future.done():
                future.set_result(reply)

        orders.ask(Ask(command, take, loop.time() + self._config.redis_timeout, writes=writes))
        return future

    async def last_seq(self, room: str) -> int:
        seq: int = (await self._call("seq", room))[1]
        return seq

    async def read_board(self, room: str, epoch: str | None = None) -> list[Any]:
        reply: list[Any] = await self._call("board", room, ENDED_SHOWN, epoch=epoch)
        return reply

    def _check(self, reply: Any) -> Any:
        if reply[0] == b"epoch":
            self._doubtful = True
            raise Unavailable("the store has lost its data, and begins anew; nothing was changed")
        if reply[0] == b"late":
            self._theirs.learn(float(reply[1]), time.monotonic())  # It may have been set.
            raise Unavailable("the store took too long; nothing was changed")
        return reply

    # Signs of life.

    @property
    def _silence(self) -> float:
        """Seconds without a sign of life of any node after which leases begin anew."""
        return self._config.redis_heartbeat + self._config.stall_timeout

    async def _live(self) -> None:
        """Say again and again that this node lives, until cancelled."""
        while True:
            try:
                await self._beat()
            except Unavailable as error:
                log.warning("no sign of life could be given: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.redis_heartbeat):
                    await self._beat_now.wait()
            self._beat_now.clear()
            self._boards.release_idle()

    async def _beat(self) -> None:
        asked_at = time.monotonic()
        self._beats += 1
        what = (repr(self._config.redis_deaf), self._beats, repr(self._silence))
        date = repr(self.clock.wall())
        reply = await self._call("beat", self.node, *what, date)
        self._theirs.learn(float(reply[2]), asked_at)
        (self.clock.reach if self._in_time else self.clock.begin)(float(reply[6]))
        self._in_time = True
        self._due.know(node.decode() for node in reply[4])
        self._due.learn(reply[5], reply[1])
        if not reply[3] or self._unannounced:
            self._unannounced = False
            for presence in list(self._here.values()):
                self._announce(presence)

    def _announce(self, presence: Presence) -> None:
        def take(reply: Any, error: Exception | None) -> None:
            if error is not None or reply[0] != b"ok":
                self._unannounced = True
            elif not presence.watching and self._here.get(presence.room) is presence:
                del self._here[presence.room]

        what = (self.node, presence.room, presence.watching, encode(presence))
        deadline = asyncio.get_running_loop().time() + self._config.redis_timeout
        self._orders.ask(Ask(self._evaluate("present", *what), take, deadline))

    # What is heard.

    async def _follow(self) -> None:
        """Follow the feed, and find the way back to it, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._find_back()
                self._heard_at = loop.time()
                self._beats_before = self._beats
                self._beat_now.set()
                while not self._doubtful:
                    for item in await self._feed.read():
                        self._hear(item)
                    self._settle()
                    self._boards.settle()
                    if loop.time() - self._heard_at > self._config.redis_deaf:
                        raise TimeoutError("this server does not hear itself")
            except (*LOST, Unavailable, Missed) as error:
                self._missed = self._missed or isinstance(error, Missed)
                self._lose_sight()
                await self._feed.line.lost(error)

    async def _find_back(self) -> None:
        """Make sure that the feed goes on from where this node is, or begin anew with it."""
        self._doubtful = False
        feed = self._feed
        epoch, number = await self._meta()
        known = epoch == self.epoch
        found = await self._entry(feed.position) if known else b""
        if known and not self._missed and found == feed.last and number >= feed.position:
            return
        self._lose_sight()
        if known and (number < feed.position or found not in (b"", feed.last)):
            log.warning("Redis has lost what it knew last: its log gets a new epoch")
            await self._call("renew", secrets.token_hex(8))
            known = False
        await (self._mend_all() if known else self._begin_anew())
        self._missed = False

    async def _begin(self) -> None:
        """Begin with the log that is there, at the end of its feed."""
        self.epoch, self._feed.position = await self._meta()
        self._feed.last = await self._entry(self._feed.position)

    async def _begin_anew(self) -> None:
        """Begin with another log, to whose boards nothing leads from the old ones."""
        epoch, position = await self._meta()
        last = await self._entry(position)
        replies = await self._boards.read_anew(epoch)
        # From here on nothing may wait: a client must not be sent an old board with a new epoch.
        self.epoch, self._feed.position, self._feed.last = epoch, position, last
        self._seqs.clear()
        self._due.begin_anew()
        self._boards.begin_anew(replies)

    async def _mend_all(self) -> None:
        """Bring all boards forward by their logs, as the feed no longer does."""
        log.warning("this server has missed some of the feed, and reads its rooms anew")
        _, position = await self._meta()
        self._feed.position, self._feed.last = position, await self._entry(position)
        self._seqs.clear()
        await self._boards.mend()

    async def _meta(self) -> tuple[str, int]:
        """The epoch, which begins when there is none, and the last number of the feed."""
        key = f"{self._prefix}meta"
        epoch, number = await self._ask("HMGET", key, "epoch", "feed")
        if epoch is None:  # Only then: it is refused where Redis is out of memory.
            await self._ask("HSETNX", key, "epoch", secrets.token_hex(8))
            epoch, number = await self._ask("HMGET", key, "epoch", "feed")
        return epoch.decode(), int(number or 0)

    async def _entry(self, number: int) -> bytes:
        """An entry of the feed, empty when it is not there."""
        found = await self._ask("XRANGE", self._feed.key, f"{number}-0", f"{number}-0")
        text: bytes = found[0][1][1] if found else b""
        return text

    def _hear(self, item: Item) -> None:
        self._due.learn(item.due, item.number)
        if item.seq:
            self._seqs[item.room] = item.seq
        if item.kind == "beat":
            node, count, at = item.body.split(b" ")
            self.clock.reach(float(at))
            if node.decode() == self.node and int(count) > self._beats_before:
                self._hear_itself()
        elif item.kind == "printed":
            offset, run, connid = item.body.decode().split(" ", 2)
            self._listener.printed(item.room, connid, run, int(offset))
        else:
            if item.kind == "emptied":
                for room in scripts.emptied(item.body)[1]:
                    self._seqs.pop(room, None)
            self._boards.hear(item)

    def _hear_itself(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if not self.ready:
            self.ready = True
            if not self._reachable:
                self._tell_reachable(True)

    def _lose_sight(self) -> None:
        """This node does not hear any more; what is mended at once is not worth telling."""
        self.ready = False
        if self._telling is None and self._reachable:
            loop = asyncio.get_running_loop()
            wait = self._config.redis_heartbeat
            self._telling = loop.call_later(wait, self._tell_reachable, False)

    def _tell_reachable(self, reachable: bool) -> None:
        self._telling = None
        self._reachable = reachable
        self._listener.reachable(reachable)

    def _answer(self, told: PendingAck) -> None:
        """Answer a change once this node has heard of it; at its deadline at the latest."""
        if told.number <= self._feed.position:
            told.resolve()
            return
        self._pending_acks.append(told)
        if self._told_timer is None:
            self._answer_late()

    def _answer_late(self) -> None:
        self._told_timer = None
        loop = asyncio.get_running_loop()
        while self._pending_acks and self._pending_acks[0].deadline <= loop.time():
            self._pending_acks.popleft().resolve()
        if self._pending_acks:
            self._told_timer = loop.call_at(self._pending_acks[0].deadline, self._answer_late)

    def _settle(self) -> None:
        """Answer those who have waited for what was heard by now."""
        completions = []
        while self._pending_acks and self._pending_acks[0].number <= self._feed.position:
            told = self._pending_acks.popleft()
            told.completion.complete(told.entries)
            completions.append(told.completion)
        notify_all(completions)


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
