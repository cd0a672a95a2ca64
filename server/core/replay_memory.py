"""The memory that tails and encoded snapshots take, of all rooms together."""

from collections.abc import Mapping
from heapq import heapify, heapreplace

from server.budget import Shares
from server.config import Config
from server.core.room import Room


class ReplayMemory:
    """Keeps what open rooms hold for those who come under the share of it."""

    def __init__(self, rooms: Mapping[str, Room], config: Config) -> None:
        self._rooms = rooms
        # Bytes that all rooms hold, at most, and may hold.
        self._held = 0
        self._most = Shares(config).replay

    def measure(self) -> int:
        """Bytes that are held now, about."""
        return sum(room.held for room in self._rooms.values())

    def count(self, size: int) -> None:
        """So many more bytes are held, which nobody may shed yet: somebody waits for them."""
        self._held += size

    def grew(self, size: int) -> None:
        """So many more bytes are held; where that may be too many, the largest rooms shed some."""
        self._held += size
        if self._held <= self._most:
            return
        sizes = [(-room.held, name) for name, room in self._rooms.items()]
        self._held = -sum(size for size, _ in sizes)
        heapify(sizes)
        while self._held > self._most * 7 // 8:
            before, name = sizes[0]
            room = self._rooms[name]
            room.shed()
            after = -room.held
            self._held += before - after
            heapreplace(sizes, (after, name))
