"""The rooms of the embedded store: those that have a log, and the boards of the others."""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from weakref import WeakValueDictionary

from server.board import Board
from server.contract.messages import EndedJob, Job
from server.store.embedded.batch import Loaded
from server.store.embedded.ledger import Ledger
from server.store.interface import Stale


class RoomTable:
    """Every room that has a log, or is about to have one, and the boards that others look at."""

    def __init__(self, most_held: int) -> None:
        """`most_held` is how many bytes of ended jobs the boards may hold."""
        self.ledgers: dict[str, Ledger] = {}
        self.floor = 0
        """The seq at which a room without a log stands."""
        # For as long as somebody looks at them: rooms are free to name, so an empty one must cost
        # nothing.
        self._empty: WeakValueDictionary[str, Board] = WeakValueDictionary()
        # Bytes of ended jobs that the boards hold, about.
        self._held = 0
        self._most_held = most_held

    def load(self, rooms: Mapping[str, Loaded], floor: int) -> None:
        """Take over what was kept when the store is opened."""
        self.floor = floor
        for name, room in rooms.items():
            self.ledgers[name] = Ledger(room.board, room.oldest, room.unanswered, room.last_at)
            self._held += room.board.weight

    def ledger(self, room: str) -> Ledger:
        """A room that has a log. Raises `Stale`: nothing is running in another."""
        ledger = self.ledgers.get(room)
        if ledger is None:
            raise Stale(None)
        return ledger

    def board(self, room: str) -> Board:
        """The board of a room, whether it has a log or not."""
        ledger = self.ledgers.get(room)
        return ledger.board if ledger else self.empty_board(room)

    def empty_board(self, room: str) -> Board:
        """The board of a room without a log."""
        board = self._empty.get(room)
        if board is None:
            board = self._empty[room] = Board(room, self.floor)
        return board

    def runs(self, job: Job) -> bool:
        """Whether a job is still running."""
        ledger = self.ledgers.get(job.room)
        running = ledger.board.running.get(job.connid) if ledger else None
        return running is not None and running.run == job.run

    def begin_log(self, room: str) -> Ledger:
        """The ledger of a room that is to have a log."""
        board = self.empty_board(room)
        del self._empty[room]
        ledger = self.ledgers[room] = Ledger(board, board.seq + 1, {})
        return ledger

    def evict(self, rooms: Mapping[str, int]) -> list[str]:
        """Empty rooms, each at the seq at which it stands from now on, and raise the floor. Returns
        the rooms whose boards changed by that, those without a log included."""
        self.floor = max(self.floor, *rooms.values())
        changed = []
        for room, seq in rooms.items():
            ledger = self.ledgers[room]
            ledger.empty(seq)
            if ledger.seq == seq:
                del self.ledgers[room]
                self._empty[room] = ledger.board
            else:  # It is to have another log, which begins there.
                changed.append(room)
        for board in list(self._empty.values()):
            if board.seq < self.floor or board.room in rooms:
                changed.append(self._lift(board))
        return changed

    def forget_pending(self) -> list[str]:
        """Take back what is not durable. Returns the rooms whose boards changed by that."""
        changed = []
        for room, ledger in list(self.ledgers.items()):
            ledger.forget()
            if not ledger.logged:
                del self.ledgers[room]
                self._empty[room] = ledger.board
                if ledger.board.seq < self.floor:
                    changed.append(self._lift(ledger.board))
        return changed

    def _lift(self, board: Board) -> str:
        """Bring the board of a room without a log to the floor."""
        board.empty(self.floor)
        return board.room

    # The ended jobs that boards hold in memory.

    @property
    def held(self) -> int:
        """Bytes of ended jobs that the boards hold, about."""
        return sum(ledger.board.weight for ledger in self.ledgers.values())

    def recall(self, ledger: Ledger, jobs: Iterable[EndedJob]) -> None:
        """Have a board hold its last ended jobs again, which were read."""
        before = ledger.board.weight
        ledger.board.recall(jobs)
        self.grew(ledger, before)

    def grew(self, ledger: Ledger, before: int) -> None:
        """A board held `before` bytes, and may hold more now: others give way where it is too
        much, those first in which nothing has happened for longest."""
        self._held += ledger.board.weight - before
        if self._held <= self._most_held:
            return
        others = [other for other in self.ledgers.values() if other.board.weight]
        self._held = sum(other.board.weight for other in others)
        for other in sorted(others, key=attrgetter("last_at")):
            # Down to this, so that there is room for some time.
            if self._held <= self._most_held * 7 // 8:
                break
            if other is not ledger:
                self._held -= other.board.weight
                other.board.leave_ended()
