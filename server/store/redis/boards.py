"""The boards that a node holds of a log which many nodes share: read from Redis, then brought
forward by what the feed says.
"""

import asyncio
from asyncio import Future
from collections.abc import Mapping
from typing import Any, Protocol
from weakref import WeakValueDictionary

from msgspec import Struct

from server.board import ENDED_SHOWN, Board, retold
from server.budget import Shares
from server.config import Config
from server.contract.messages import EndedJob, LogEvent, Presence, Progress
from server.errors import Unavailable
from server.store.interface import Entry, Listener
from server.store.redis import scripts
from server.store.redis.feed import Evicted, Gone, Item, Logged, Missed, Present, Reported, RoomItem
from server.store.redis.futures import refuse


class Source(Protocol):
    """What boards are read from."""

    def now(self) -> float: ...

    async def read_board(self, room: str, epoch: str | None = None) -> list[Any]:
        """What `board.lua` answers, of the log that the node knows or of that `epoch`."""

    async def read(self, room: str, after: int) -> list[Entry] | None:
        """The entries of a room with a seq above `after`; None where not all are kept."""

    async def last_seq(self, room: str) -> int:
        """The seq at which a room stands."""

    async def history(
        self, room: str, connid: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        """As in `Store`."""


class SharedBoard(Board):
    """A board that is brought forward by the feed, from a number on; and who is in the room."""

    __slots__ = ("logged", "number", "parts")

    def __init__(self, room: str) -> None:
        super().__init__(room)
        self.logged = False
        """Whether the room has a log."""
        self.number = 0
        self.parts: dict[str, Presence] = {}

    def fill(self, reply: list[Any]) -> None:
        """Become what `board.lua` has read."""
        scripts.fill(self, reply)
        self.number = reply[1]
        parts = scripts.pairs(reply[6])
        self.parts = {node.decode(): scripts.decode_presence(part) for node, part in parts.items()}
        self.logged = bool(reply[7])

    def take(self, other: "SharedBoard") -> None:
        """Become what another board of the same room is."""
        self.seq, self.running, self.ended = other.seq, other.running, other.ended
        self.weight, self.whole = other.weight, other.whole
        self.number, self.parts, self.logged = other.number, other.parts, other.logged


class Loading(Struct, eq=False):
    """A board that is being read, and what the feed says meanwhile."""

    task: "asyncio.Task[SharedBoard] | None" = None
    heard: list[Item] = []
    void: bool = True
    """Whether it has to be read, or read again."""


class SharedBoards:
    """The boards of the rooms that this node was asked for of late, or that somebody holds."""

    def __init__(self, source: Source, config: Config) -> None:
        self._source = source
        self._config = config
        self.listener = Listener()
        """Who is told what the boards show, once they do."""
        self._held: WeakValueDictionary[str, SharedBoard] = WeakValueDictionary()
        # Keeps the boards that were asked for of late, and when they were.
        self._asked: dict[str, tuple[SharedBoard, float]] = {}
        # Bytes of ended jobs that the boards may hold, and how many have come of late, at most.
        self._most_held = Shares(config).ended
        self._grown = 0
        self._loading: dict[str, Loading] = {}
        # Who waits until a board has come to a seq.
        self._awaited: list[tuple[Board, int, Future[None]]] = []

    def find(self, room: str) -> SharedBoard | None:
        """The board of a room, if it is held."""
        return self._held.get(room)

    async def get(self, room: str) -> SharedBoard:
        """The board of a room, with all that any node has been answered by now."""
        board = self._held.get(room)
        if board is None:
            board = await self._load(room)
        else:
            await self.reach(board, await self._source.last_seq(room))
        self._asked.pop(room, None)
        self._asked[room] = board, asyncio.get_running_loop().time()
        if not board.whole:
            board.recall(reversed(await self._source.history(room, None, None, ENDED_SHOWN)))
        self._grown += board.weight
        if self._grown > self._most_held // 4:
            self._leave_ended(board)
        return board

    @property
    def held(self) -> int:
        """Bytes of ended jobs that the boards hold, about."""
        return sum(board.weight for board in self._held.values())

    def _leave_ended(self, but: SharedBoard | None = None) -> None:
        """Have the boards that were not asked for for longest hold no ended jobs any more, where
        all hold more than they may."""
        self._grown = 0
        held = self.held
        asked = [board for board, _ in self._asked.values()]
        for board in (*(set(self._held.values()) - set(asked)), *asked):
            if held <= self._most_held * 3 // 4:
                break
            if board is not but:
                held -= board.weight
                board.leave_ended()

    async def reach(self, board: Board, seq: int) -> None:
        """Wait until a board has come to a seq. Raises `Unavailable`."""
        if board.seq >= seq:
            return
        loop = asyncio.get_running_loop()
        future: Future[None] = loop.create_future()
        late = Unavailable("the store cannot be followed")
        timer = loop.call_later(self._config.redis_timeout, refuse, future, late)
        self._awaited.append((board, seq, future))
        try:
            await future
        finally:
            timer.cancel()

    def settle(self) -> None:
        """Let those go on who have waited for what was heard by now."""
        waiting, self._awaited = self._awaited, []
        for board, seq, future in waiting:
            if future.done():
                continue
            if board.seq >= seq:
                future.set_result(None)
            else:
                self._awaited.append((board, seq, future))

    def release_idle(self) -> None:
        """Hold no longer what nobody has asked for of late."""
        oldest = asyncio.get_running_loop().time() - self._config.redis_keep
        for room, (_, at) in list(self._asked.items()):
            if at < oldest:
                del self._asked[room]
        self._leave_ended()

    def hear(self, item: RoomItem) -> None:
        """Take in what the feed says of a room. Raises `Missed`."""
        if item.room in self._loading:
            self._loading[item.room].heard.append(item)
        elif board := self._held.get(item.room):
            self._bring(board, item)

    def hear_of_all(self, item: Item) -> None:
        """Take in what the feed says of all rooms."""
        for loading in self._loading.values():
            loading.heard.append(item)
        for held in list(self._held.values()):
            self._bring(held, item)

    async def mend(self) -> None:
        """Bring all boards forward by their logs, as the feed no longer does."""
        self._void()
        for room, board in list(self._held.items()):
            await self._mend(room, board)

    async def read_anew(self, epoch: str) -> Mapping[str, list[Any]]:
        """What another log has of each room, for `begin_anew`."""
        return {room: await self._source.read_board(room, epoch) for room in list(self._held)}

    def begin_anew(self, replies: Mapping[str, list[Any]]) -> None:
        """Show another log, to whose boards nothing leads from the old ones."""
        self._void()
        for room, board in list(self._held.items()):
            if room in replies:
                board.fill(replies[room])
                self.listener.reset(room)
            else:
                del self._held[room]
        self._asked.clear()

    def _void(self) -> None:
        """Have boards that are being read be read again: the feed was left meanwhile."""
        for loading in self._loading.values():
            loading.void = True

    async def _mend(self, room: str, board: SharedBoard) -> None:
        fresh = SharedBoard(room)
        fresh.fill(await self._source.read_board(room))
        entries = await self._source.read(room, board.seq)
        if entries is None:
            board.take(fresh)
            self.listener.reset(room)
            return
        for entry in entries:
            if entry.event.seq <= fresh.seq:
                self._apply(board, entry.event, entry.body)
        for connid, job in fresh.running.items():
            if job.progress is not None and job.progress != board.running[connid].progress:
                self._report(board, retold(job, job.progress, self._source.now()))
        board.take(fresh)
        self._tell_presence(board)

    async def _load(self, room: str) -> SharedBoard:
        """Read a board, once for all who ask for it meanwhile."""
        loading = self._loading.get(room)
        if loading is None:
            loading = self._loading[room] = Loading()
            loading.task = asyncio.create_task(self._read(room, loading))
            loading.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        assert loading.task is not None
        return await asyncio.shield(loading.task)

    async def _read(self, room: str, loading: Loading) -> SharedBoard:
        try:
            while loading.void:
                loading.void = False
                loading.heard.clear()
                reply = await self._source.read_board(room)
            board = SharedBoard(room)
            board.fill(reply)
            self._held[room] = board
            for item in loading.heard:
                self._bring(board, item)
            return board
        finally:
            del self._loading[room]

    def _bring(self, board: SharedBoard, item: Item) -> None:
        """Bring a board forward by what was heard, unless it has that already."""
        if item.number <= board.number:
            return
        match item:
            case Logged():
                if item.seq > board.seq:
                    self._apply(board, scripts.decode_event[item.name](item.body), item.body)
            case Reported():
                self._report(board, scripts.decode_progress(item.body))
            case Present():
                part = scripts.decode_presence(item.body)
                board.parts.pop(item.node, None)
                if part.watching:
                    board.parts[item.node] = part
                self._tell_presence(board)
            case Evicted():
                # One without a log stands where that would begin, as it does on every other node.
                if board.room in item.rooms or (not board.logged and board.seq < item.floor):
                    board.empty(item.floor)
                    board.logged = False
                    self.listener.emptied(board.room)
            case Gone():
                if board.parts.pop(item.node, None) is not None:
                    self._tell_presence(board)

    def _apply(self, board: SharedBoard, event: LogEvent, body: bytes) -> None:
        if event.seq != board.seq + 1:
            raise Missed(f"{board.room}: event {event.seq} does not follow {board.seq}")
        board.apply(event)
        board.logged = True
        self.listener.follow(Entry(event, body))

    def _report(self, board: SharedBoard, progress: Progress) -> None:
        board.report(progress)
        self.listener.report(progress)

    def _tell_presence(self, board: SharedBoard) -> None:
        watching = sum(part.watching for part in board.parts.values())
        names = sorted({name for part in board.parts.values() for name in part.names})
        shown = names[: self._config.presence_names]
        self.listener.present(Presence(board.room, watching, shown))
