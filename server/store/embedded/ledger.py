"""One room of the embedded store: what is durable of it, and what is decided on top of that."""

from itertools import chain

from msgspec import field

from server.board import Board
from server.contract.messages import Job, Killed, LogEvent, Progress, Started, Stopped
from server.store.embedded.batch import Unanswered
from server.store.interface import Entry, Foreign, Stale, Submitted


class Decided(Submitted, kw_only=True, eq=False):
    """A change that has been decided and waits for its commit."""

    ledger: "Ledger | None" = None
    """The room that it changes; None where it was refused."""
    connid: str = ""
    """The job that it has started, ended or reported of, if any."""
    progress: Progress | None = None
    refusal: Exception | None = None
    """Why it was refused: told with the batch, as it may rest on a change before it."""
    entries: list[Entry] = field(default_factory=list)


class Ledger:
    """One room: what is durable of it, and what has been decided on top of that."""

    __slots__ = (
        "board",
        "kept_from",
        "last_at",
        "oldest",
        "pending",
        "running",
        "seq",
        "stops",
        "unanswered",
    )

    def __init__(
        self,
        board: Board,
        oldest: int,
        unanswered: dict[str, Unanswered],
        last_at: float = 0.0,
    ) -> None:
        """`oldest` is the first seq that is kept; `unanswered` are the killed runs whose owner has
        not said that the work has stopped; `last_at` is when a job has last ended, or stopped."""
        self.board = board
        self.oldest = oldest
        self.unanswered = unanswered
        started = (job.started_at for job in board.running.values())
        self.last_at = max(chain([last_at], started))
        """When the last event was; when opened, as far as it can be seen."""
        self.forget()

    def forget(self) -> None:
        """Take back what is not durable."""
        self.seq = self.board.seq
        self.running = len(self.board.running)
        """How many jobs run, as decided."""
        self.pending: dict[str, tuple[Job | None, Decided]] = {}
        """What changes that are not durable have made of a job, by connid."""
        self.stops: set[str] = set()
        """The runs that are said to have stopped."""
        self.kept_from = self.oldest
        """The first seq that is kept, as decided."""

    @property
    def logged(self) -> bool:
        """Whether it has a log that is durable."""
        return self.board.seq >= self.oldest

    def idle(self, before: float) -> bool:
        """Whether nothing is running, and nothing has happened since `before`."""
        # What is not durable yet has a seq of its own.
        return self.running == 0 and self.last_at < before and self.seq == self.board.seq

    def evict(self, seq: int) -> None:
        """Decide to evict the log; what comes next has a seq above this one."""
        self.seq = seq
        self.kept_from = seq + 1
        self.stops.update(self.unanswered)  # Nobody can say of these runs any more that they did.

    def empty(self, seq: int) -> None:
        """The log is evicted: that is durable now."""
        self.board.empty(seq)
        self.oldest = seq + 1
        self.kept_from = max(self.kept_from, self.oldest)
        self.unanswered.clear()
        self.stops.clear()

    def current(self, connid: str) -> Job | None:
        """What is running under `connid`, as decided."""
        if connid in self.pending:
            return self.pending[connid][0]
        return self.board.running.get(connid)

    def expect(self, connid: str, run: str | None, owner: str | None) -> Job:
        """What is running under `connid`, if it is that run, of that owner. Raises `Stale`,
        `Foreign`."""
        job = self.current(connid)
        if job is None or run not in (None, job.run):
            raise Stale(job)
        check_owner(owner, job.by)
        return job

    def owner(self, connid: str, run: str) -> str | None:
        """Whose a run is that is running, was killed and has not stopped, or ended of late."""
        job = self.board.running.get(connid)
        if job is not None and job.run == run:
            return job.by
        killed = self.unanswered.get(run)
        if killed is not None and killed.connid == connid:
            return killed.owner
        ended = self.board.find_ended(connid, run)
        return ended.started_by if ended else None

    def settle(self, event: LogEvent) -> None:
        """Take an event that is durable now."""
        self.board.apply(event)
        self.last_at = event.at
        if isinstance(event, Started):
            return
        if isinstance(event, Killed):
            owner = self.board.ended[-1].started_by
            self.unanswered[event.run] = Unanswered(event.seq, event.connid, owner)
        elif isinstance(event, Stopped):
            self.unanswered.pop(event.run, None)
            self.stops.discard(event.run)

    def trim(self, last: int) -> None:
        """Keep nothing up to the seq `last`."""
        self.oldest = last + 1
        self.kept_from = max(self.kept_from, self.oldest)
        for run in [run for run, killed in self.unanswered.items() if killed.seq <= last]:
            del self.unanswered[run]


def check_owner(wanted: str | None, owner: str) -> None:
    """Raises `Foreign` where a job must be of the owner that is wanted, and is of another."""
    if wanted not in (None, owner):
        raise Foreign(owner)
