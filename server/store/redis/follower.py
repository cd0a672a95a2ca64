"""Follows the feed, and finds the way back to it."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from enum import Enum, auto

from server.config import Config
from server.errors import Unavailable
from server.store.interface import Listener
from server.store.redis.boards import SharedBoards
from server.store.redis.calls import Calls
from server.store.redis.connections import LOST
from server.store.redis.feed import (
    Beat,
    Evicted,
    Feed,
    Gone,
    Item,
    Logged,
    Missed,
    PrintedTo,
    Reported,
    RoomItem,
)
from server.store.redis.membership import Membership
from server.store.redis.next_due import NextDue
from server.store.redis.pending_acks import PendingAcks

log = logging.getLogger(__name__)


class Sight(Enum):
    """How far a node sees what is in the log.

    FOLLOWING -> DOUBTFUL -> FOLLOWING where the log is the same after all; else, and wherever the
    feed is lost, -> LOST or BEHIND -> RETURNING -> FOLLOWING.
    """

    FOLLOWING = auto()
    """The feed is heard, with this node's own signs of life in it."""
    DOUBTFUL = auto()
    """The same, but a script has found another log: that is looked at before more is heard."""
    LOST = auto()
    """The feed is not heard. It may go on from where this node has left it."""
    BEHIND = auto()
    """The feed does not go on from there: the boards have to be read from their logs."""
    RETURNING = auto()
    """The feed is read again, and this node has yet to hear itself in it."""


READY = (Sight.FOLLOWING, Sight.DOUBTFUL)
HEARING = (Sight.FOLLOWING, Sight.RETURNING)


class Reachability:
    """Tells whether the log is in reach; what is mended in a moment is not worth telling."""

    def __init__(self, grace: float, tell: Callable[[bool], None]) -> None:
        """`grace` is that moment, in seconds."""
        self._grace = grace
        self._tell = tell
        self._told = True
        self._timer: asyncio.TimerHandle | None = None

    def note(self, reachable: bool) -> None:
        """It is in reach now, or is not."""
        if reachable:
            self.close()
            if not self._told:
                self._say(True)
        elif self._told and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._grace, self._say, False)

    def close(self) -> None:
        """Tell nothing that is not told yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say(self, reachable: bool) -> None:
        self._timer = None
        self._told = reachable
        self._tell(reachable)


class Follower:
    """Hears the feed for the boards, for those who wait for it, and for the timeouts."""

    def __init__(
        self,
        calls: Calls,
        config: Config,
        boards: SharedBoards,
        membership: Membership,
        due: NextDue,
        on_ready: Callable[[bool], None],
    ) -> None:
        """`on_ready` is called with whether the feed is heard, when that changes."""
        self._calls = calls
        self._deaf = config.redis_deaf
        self._boards = boards
        self._membership = membership
        self._due = due
        self._on_ready = on_ready
        self._feed = Feed(
            calls.endpoint, f"{calls.prefix}feed", config.redis_timeout, config.redis_heartbeat
        )
        self.acks = PendingAcks(lambda: self._feed.position)
        """The changes that are answered once the feed has come to them."""
        self.listener = Listener()
        """Who hears what the feed says, beside the boards."""
        self._reachability = Reachability(config.redis_heartbeat, self._tell_reachable)
        self._sight = Sight.LOST
        # The seqs that rooms have come to, as far as they were heard of.
        self._seqs: dict[str, int] = {}
        self._heard_at = 0.0
        # This node's signs of life before it found back to the feed say nothing of it.
        self._beats_before = 0
        calls.on_doubt = self._doubt

    async def begin(self) -> None:
        """Begin with the log that is there, at the end of its feed. Raises `Unavailable`."""
        self._calls.epoch, self._feed.position = await self._meta()
        self._feed.last = await self._entry(self._feed.position)

    def begun(self) -> None:
        """All is there that the node needs to begin."""
        self._heard_at = asyncio.get_running_loop().time()
        self._become(Sight.FOLLOWING)

    async def run(self) -> None:
        """Follow the feed until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._find_back()
                self._heard_at = loop.time()
                self._beats_before = self._membership.beats
                self._membership.beat_soon()
                while self._sight in HEARING:
                    for item in await self._feed.read():
                        self._hear(item)
                    self.acks.settle()
                    self._boards.settle()
                    if loop.time() - self._heard_at > self._deaf:
                        raise TimeoutError("this server does not hear itself")
            except (*LOST, Unavailable, Missed) as error:
                missed = isinstance(error, Missed) or self._sight is Sight.BEHIND
                self._become(Sight.BEHIND if missed else Sight.LOST)
                await self._feed.line.lost(error)

    async def close(self) -> None:
        """Release the connection and the timers."""
        self._reachability.close()
        self.acks.close()
        await self._feed.line.close()

    def changed(self, room: str, seq: int, number: int) -> None:
        """This node has brought a room to a seq, and the feed to a number."""
        if number > self._feed.position:  # Else the feed has said it, or what came later.
            self._seqs[room] = max(self._seqs.get(room, 0), seq)

    def seq(self, room: str) -> int | None:
        """The seq that a room has come to, where it was heard of."""
        return self._seqs.get(room)

    def _become(self, sight: Sight) -> None:
        was_ready, self._sight = self._sight in READY, sight
        ready = sight in READY
        if ready is not was_ready:
            self._on_ready(ready)
        self._reachability.note(ready)

    def _doubt(self) -> None:
        """A script has found another log than this node knows."""
        if self._sight is Sight.FOLLOWING:
            self._become(Sight.DOUBTFUL)
        elif self._sight is Sight.RETURNING:
            self._become(Sight.LOST)

    def _tell_reachable(self, reachable: bool) -> None:
        self.listener.reachable(reachable)

    async def _find_back(self) -> None:
        """Make sure that the feed goes on from where this node is, or begin anew with it."""
        behind = self._sight is Sight.BEHIND
        if self._sight is Sight.DOUBTFUL:  # Before anything is asked, as there may be new doubts.
            self._become(Sight.FOLLOWING)
        elif self._sight is Sight.LOST:
            self._become(Sight.RETURNING)
        feed = self._feed
        epoch, number = await self._meta()
        known = epoch == self._calls.epoch
        found = await self._entry(feed.position) if known else b""
        if known and not behind and found == feed.last and number >= feed.position:
            return
        self._become(Sight.BEHIND)
        if known and (number < feed.position or found not in (b"", feed.last)):
            log.warning("Redis has lost what it knew last: its log gets a new epoch")
            await self._calls.call("renew", secrets.token_hex(8))
            known = False
        await (self._mend_all() if known else self._begin_anew())
        self._become(Sight.RETURNING)

    async def _begin_anew(self) -> None:
        """Begin with another log, to whose boards nothing leads from the old ones."""
        epoch, position = await self._meta()
        last = await self._entry(position)
        replies = await self._boards.read_anew(epoch)
        # From here on nothing may wait: a client must not be sent an old board with a new epoch.
        self._calls.epoch, self._feed.position, self._feed.last = epoch, position, last
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
        key = f"{self._calls.prefix}meta"
        epoch, number = await self._calls.ask("HMGET", key, "epoch", "feed")
        if epoch is None:  # Only then: it is refused where Redis is out of memory.
            await self._calls.ask("HSETNX", key, "epoch", secrets.token_hex(8))
            epoch, number = await self._calls.ask("HMGET", key, "epoch", "feed")
        return epoch.decode(), int(number or 0)

    async def _entry(self, number: int) -> bytes:
        """An entry of the feed, empty when it is not there."""
        found = await self._calls.ask("XRANGE", self._feed.key, f"{number}-0", f"{number}-0")
        text: bytes = found[0][1][1] if found else b""
        return text

    def _hear(self, item: Item) -> None:
        self._due.learn(item.due, item.number)
        match item:
            case Logged() | Reported():
                self._seqs[item.room] = item.seq
                self._boards.hear(item)
            case Beat():
                self._calls.time.reach(item.at)
                if item.node == self._calls.node and item.count > self._beats_before:
                    self._hear_itself()
            case PrintedTo():
                self.listener.printed(item.room, item.connid, item.run, item.offset)
            case RoomItem():
                self._boards.hear(item)
            case Evicted():
                for room in item.rooms:
                    self._seqs.pop(room, None)
                self._boards.hear_of_all(item)
            case Gone():
                self._boards.hear_of_all(item)

    def _hear_itself(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if self._sight is Sight.RETURNING:
            self._become(Sight.FOLLOWING)
