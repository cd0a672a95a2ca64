"""What is kept of ended jobs and of logs, read from memory or else from the backend."""

import logging

from server.board import ENDED_SHOWN
from server.contract.messages import EndedJob
from server.errors import Unavailable
from server.store.embedded.access import Access
from server.store.embedded.batch import Backend
from server.store.embedded.ledger import Ledger
from server.store.embedded.room_table import RoomTable
from server.store.interface import Entry, check_whole

log = logging.getLogger(__name__)


class Records:
    """Reads what is durable. Every method raises `Unavailable` where it cannot be read."""

    def __init__(self, backend: Backend, access: Access, rooms: RoomTable, history: int) -> None:
        """`history` is how many entries of its log a room keeps."""
        self._backend = backend
        self._access = access
        self._rooms = rooms
        self._history = history
        # The rooms whose logs were said to be unreadable.
        self._unreadable: set[str] = set()

    async def recall(self, ledger: Ledger) -> None:
        """Have a board hold its last ended jobs again."""
        board = ledger.board
        jobs = await self.history(board.room, None, None, None, ENDED_SHOWN)
        if not board.whole:
            self._rooms.recall(ledger, reversed(jobs))

    async def ended(self, room: str, connid: str, run: str | None) -> EndedJob | None:
        """As in `Store`."""
        ledger = self._rooms.ledgers.get(room)
        if ledger is None:
            return None
        if found := ledger.board.find_ended(connid, run):
            return found
        jobs = await self.history(room, connid, run, None, 1)
        return jobs[0] if jobs else None

    async def ended_with(
        self, room: str, connid: str, key: str, owner: str | None
    ) -> EndedJob | None:
        """The last ended job of `connid` that was requested with a key, by that owner if one is
        named."""
        for job in await self._access.read(self._backend.started_with, room, connid, key):
            if owner in (None, job.started_by):
                return job
        return None

    async def history(
        self, room: str, connid: str | None, run: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        """As in `Backend`."""
        return await self._access.read(self._backend.history, room, connid, run, before, limit)

    async def log(self, room: str, after: int) -> list[Entry] | None:
        """As `Store.read`."""
        ledger = self._rooms.ledgers.get(room)
        if ledger is None:
            return [] if after >= self._rooms.empty_board(room).seq else None
        if after < max(ledger.oldest - 1, ledger.board.seq - self._history):
            return None
        seq = ledger.board.seq
        try:
            entries = await self._access.read(self._backend.read, room, after)
            if after < ledger.oldest - 1:  # Meanwhile the log was cut, or evicted.
                return None
            check_whole(entries, after, seq)
        except Unavailable:
            raise
        except Exception as error:
            # Whoever asks can do with the board, which is not read from there.
            if room not in self._unreadable:
                self._unreadable.add(room)
                log.error("the log of %s cannot be read after %d: %s", room, after, error)
            return None
        return entries

    async def of_run(self, room: str, connid: str, run: str) -> list[Entry]:
        """As `Store.read_run`."""
        return await self._access.read(self._backend.read_run, room, connid, run)

    def forget(self, room: str) -> None:
        """A room was evicted: its next log may be readable."""
        self._unreadable.discard(room)
