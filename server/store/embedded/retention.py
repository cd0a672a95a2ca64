"""How long the embedded store keeps what has happened: evicts idle rooms, trims long logs."""

from collections import deque

from server.store.embedded.batch import Batch
from server.store.embedded.ledger import Ledger
from server.store.embedded.room_table import RoomTable

LOOKED_AT_ONCE = 1000
"""Rooms that a sweep looks at before the loop may turn to its other work."""
EVICTED_AT_ONCE = 1000
"""Entries of logs that one commit deletes, and the rest of those of the last room."""
TRIM_SLACK = 100
"""Entries by which a log may outgrow its bound before it is cut back, to cut seldom."""


class Retention:
    """Decides which rooms are evicted, and which logs are cut back; knows no asyncio."""

    def __init__(self, rooms: RoomTable, history: int) -> None:
        """`history` is how many entries of its log a room keeps."""
        self._rooms = rooms
        self._history = history
        self.most_kept = history + TRIM_SLACK
        """Entries from which on a log is cut back."""
        self.overgrown: set[Ledger] = set()
        """The rooms whose logs have outgrown their bound."""
        self.present: set[str] = set()
        """The rooms that somebody is in."""

    def evict(self, rooms: deque[str], before: float, batch: Batch) -> bool:
        """Look at the first of these rooms, which are taken out, and have the batch evict those in
        which nothing has happened since `before`; whether there are any."""
        floor = self._rooms.floor
        looked = entries = 0
        while rooms and looked < LOOKED_AT_ONCE and entries < EVICTED_AT_ONCE:
            room = rooms.popleft()
            looked += 1
            ledger = self._rooms.ledgers.get(room)
            if ledger is not None and room not in self.present and ledger.idle(before):
                entries += ledger.seq - ledger.oldest + 1
                floor = max(floor, ledger.seq + 1)
                ledger.evict(floor)
                batch.evicted[room] = floor
        return entries > 0

    def trim(self, batch: Batch) -> None:
        """Have the batch cut back the logs that have outgrown their bound, as far as they are
        durable."""
        overgrown, self.overgrown = self.overgrown, set()
        for ledger in overgrown:
            room, seq = ledger.board.room, ledger.board.seq
            if seq - ledger.oldest >= self.most_kept and room not in batch.evicted:
                batch.trimmed[room] = seq - self._history

    def show_trimmed(self, batch: Batch) -> None:
        """What the batch has cut back is gone."""
        for room, last in batch.trimmed.items():
            self._rooms.ledgers[room].trim(last)
