"""A room that somebody is in: its members, its watchers, and the tail of its log."""

import asyncio
from collections import deque
from collections.abc import Iterable
from itertools import islice

from server.board import Board
from server.budget import Shared
from server.contract.messages import Frame, State, encode
from server.core.subscribers import Client, NewGroup

COPIES = 3
"""How often an event of a tail is in memory: as it was logged, and framed for either door."""
EVENT = 512
"""Bytes that it takes beside that, about."""
Logged = tuple[int, str, Frame]
"""An entry of the log to be sent again: its seq, its connid and its frame."""


class Room:
    """The part of a room that exists while somebody is in it or watches one of its jobs."""

    def __init__(self, board: Board, new_group: NewGroup) -> None:
        self.board = board
        self.members: set[Client] = set()
        # Each member is in the group, or one of the others, who are sent their events one by one.
        self.others: set[Client] = set()
        self.group = new_group(self.others.add)
        self.watchers: dict[str, set[Client]] = {}
        self.presence_changed = False
        self.idle = False
        self.reading = asyncio.Lock()
        self.restart()

    def restart(self) -> None:
        """Begin with the board as it is now."""
        board = self.board
        self.tail: deque[Logged] = deque()
        """The last entries, without holes up to the board's seq."""
        self.snapshot: Shared | None = None
        """The end of a snapshot, from the running jobs on, until the board changes."""
        self.snapshot_size = 0
        """Its bytes when it was encoded last."""
        self.reported = {connid: board.seq for connid, job in board.running.items() if job.progress}
        """The seq at which each running job last reported progress, which is not in the log."""

    def enter(self, client: Client) -> None:
        """Make a client a member."""
        self.members.add(client)
        self.presence_changed = True
        self.unite(client)

    def exit(self, client: Client) -> None:
        """Make a client no member any more, if it is one."""
        if client in self.members:
            self.members.remove(client)
            self.presence_changed = True
            self.others.discard(client)
            self.group.discard(client)

    def unite(self, client: Client) -> None:
        """Let a member that has all up to now into the group, if it can be let in."""
        if self.board.room not in client.behind and self.group.add(client):
            self.others.discard(client)
        else:
            self.group.discard(client)
            self.others.add(client)

    def reaches(self, seq: int) -> bool:
        """Whether the tail holds every entry after `seq`."""
        first = self.tail[0][0] if self.tail else self.board.seq + 1
        return first - 1 <= seq <= self.board.seq

    def after(self, seq: int) -> Iterable[Logged]:
        """The tail after `seq`, which it must reach."""
        return islice(self.tail, len(self.tail) - (self.board.seq - seq), None)

    def encode(self) -> Shared:
        """Encode the end of a snapshot."""
        board = self.board
        state = encode(State(list(board.running.values()), list(board.ended)))
        self.snapshot = Shared(memoryview(state)[1:])
        self.snapshot_size = len(self.snapshot)
        return self.snapshot

    def strangers(self, connid: str) -> Iterable[Client]:
        """Who watches a job without being in the room."""
        watchers = self.watchers.get(connid)
        return watchers - self.members if watchers else ()

    @property
    def held(self) -> int:
        """Bytes that its tail and its snapshot take, about."""
        tail = sum(EVENT + COPIES * len(frame.body) for _, _, frame in self.tail)
        return tail + (len(self.snapshot) if self.snapshot is not None else 0)

    def shed(self) -> None:
        """Hold half as much, or less."""
        self.snapshot = None
        for _ in range((len(self.tail) + 1) // 2):
            self.tail.popleft()
