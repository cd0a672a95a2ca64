"""The store: it makes commands durable, and its log is where every change of state comes from.

`Store` is what the rest of the server knows. `open_store` picks the kind that the settings ask for.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from msgspec import UNSET, Raw, Struct

from server.access.actor import SERVER, Actor
from server.board import Board
from server.clock import Clock
from server.config import Config
from server.contract.messages import (
    EndedJob,
    Finished,
    Job,
    Killed,
    LogEvent,
    Outcome,
    Presence,
    Printed,
    Progress,
    Via,
)
from server.counters import Histogram
from server.errors import TooMany, Unavailable
from server.store.completion import Completion

SAME = 0.001
"""Seconds within which two deadlines are the same: clients may write them with fewer digits."""


class Entry(Struct, frozen=True):
    """An event of the log with its JSON, which is what the file keeps and the clients are sent."""

    event: LogEvent
    body: bytes
    job: Raw | None = None
    """What the job has become, where a change has just made it start or end."""


class KillDetails(Struct, frozen=True):
    """How somebody ends a run, before the log has given it a seq; None is whichever is running."""

    run: str | None
    by: str
    via: Via
    reason: str | None = None


class FinishDetails(Struct, frozen=True):
    """How a run ended by itself, before the log has given it a seq."""

    run: str
    outcome: Outcome
    result: Raw
    late: bool = False


class StartJob(Struct, frozen=True):
    """Start `job`. Allowed when its connid is not running, or when a kill comes along that
    `replaces` what is running.

    Where the job has a key, `owner` is whose key it is, None where that is anybody's.

    Here and below `actor` is who asks for the change: the audit log records it.
    """

    job: Job
    replaces: KillDetails | None = None
    owner: str | None = None
    actor: Actor = SERVER


class EndJob(Struct, frozen=True):
    """End a job. Allowed when it is running, as the run that is named.

    Here and below `owner` is who must have started the job, None where that may be anybody.
    """

    room: str
    connid: str
    at: float
    how: KillDetails | FinishDetails
    owner: str | None = None
    actor: Actor = SERVER


class ExtendJob(Struct, frozen=True):
    """Give a job `time` seconds more. Allowed when it is running, as the run and until the
    `deadline` that are named, and may run for no more than `most` seconds in all then."""

    room: str
    connid: str
    at: float
    time: float
    most: float
    run: str | None = None
    deadline: float | None = None
    actor: Actor = SERVER


class StopJob(Struct, frozen=True):
    """Record that the work of an ended job has stopped. Allowed once for each run that was killed,
    ran out of time or was lost."""

    room: str
    connid: str
    run: str
    at: float
    exit: int | None
    owner: str | None = None
    actor: Actor = SERVER


class AmendJob(Struct, frozen=True):
    """Record how the work of a lost job truly ended. Allowed once for each run that was lost."""

    room: str
    connid: str
    run: str
    at: float
    outcome: Outcome
    result: Raw
    owner: str | None = None
    actor: Actor = SERVER


class ReportProgress(Struct, frozen=True):
    """Keep the latest progress of a running job. Allowed when its run is the running one."""

    progress: Progress
    owner: str | None = None
    actor: Actor = SERVER


class Due(Struct, frozen=True):
    """A running job whose time is up, or whose lease was not renewed."""

    job: Job
    at: float
    missed: bool = False
    """Whether no server was there to end it when it came due."""


Change = StartJob | EndJob | ExtendJob | StopJob | ReportProgress
Annotation = StopJob | AmendJob


class Submitted(Completion[list[Entry]], kw_only=True, eq=False):
    """A change that was asked for. Brings the entries that it has made, once they are durable and
    told: what they say is then the truth for good. Else `Stale`, `Foreign`, `TooMany` or
    `Unavailable`."""

    change: Change | AmendJob


class Stale(Exception):
    """The change is not allowed as things are; `job` is what is running under its connid."""

    def __init__(self, job: Job | None) -> None:
        super().__init__("the job that the change expects is not the one that is running")
        self.job = job


class Foreign(Exception):
    """The change would be allowed if the job were not that of another `owner`."""

    def __init__(self, owner: str) -> None:
        super().__init__("the job belongs to another owner than the one that the change names")
        self.owner = owner


class Repeated(Exception):
    """The start was made before, with the same key: of `job`, running or ended."""

    def __init__(self, job: Job | EndedJob) -> None:
        super().__init__("the job that the change would start has been started before")
        self.job = job


class StoreError(Exception):
    """The store cannot be opened at all; the message says why, and what would help."""


class Listener:
    """Who hears what a store has to tell; by default nothing comes of it."""

    def follow(self, entry: Entry) -> None:
        """An entry of the log is durable, and its board shows it."""

    def report(self, progress: Progress) -> None:
        """A job has reported, and its board shows it."""

    def present(self, presence: Presence) -> None:
        """Who is in a room, of all who use the same log."""

    def printed(self, room: str, connid: str, run: str, offset: int) -> None:
        """A job has printed something, after that many characters."""

    def reset(self, room: str) -> None:
        """A room's board was read anew, as there was no way from what it was."""

    def emptied(self, room: str) -> None:
        """A room is empty: its log, if it had one, was evicted, and its board stands higher."""

    def reachable(self, reachable: bool) -> None:
        """The log can be read and written again, or no longer."""


Record = Callable[[list[Entry], Actor], None]
"""Records who has made entries of the log."""


def ignore(entries: list[Entry], actor: Actor) -> None:
    """Record nothing."""


class Store(ABC):
    """The durable log of every room, and the boards that it adds up to.

    A room without a log stands at the *floor*, a seq above those of every log that was ever
    evicted: so no position in a log is one in the next log of the room.

    Every method that waits may raise `errors.Unavailable`, and has then changed nothing unless the
    error says that this is unknown.
    """

    clock: Clock
    """The clock behind `now`, and the machine's date."""
    epoch: str
    """The id of this log: another one means that the positions of the old one say nothing."""
    now: Callable[[], float]
    """The time, in seconds since the Unix epoch: it never falls, whatever date the machine has."""
    commits: Histogram
    """How long it took until a change, or a batch of them, was durable."""
    ready: bool = True
    """Whether the log can be written, and what others write to it is heard."""
    why: str = "the log is not heard"
    """Why not, where it is not ready."""
    rooms_evicted: int = 0
    """Rooms that were evicted through this server."""

    @property
    @abstractmethod
    def held(self) -> Mapping[str, int]:
        """The bytes of `ended` jobs and of `output` that are held in memory, about."""

    @abstractmethod
    async def open(self, listener: Listener, record: Record = ignore) -> None:
        """Read what is there; from then on tell each entry, in order, once it is durable.

        `record(entries, actor)` is called for each change that was submitted here and has made
        entries: once they are durable, before its completion is resolved.

        Raises `StoreError` when the store cannot be used.
        """

    @abstractmethod
    async def ping(self) -> None:
        """Ask the store for a sign of life: that it can be written."""

    @abstractmethod
    async def run(self) -> None:
        """Make changes durable until cancelled."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what was submitted, refuse what comes later, and release the store."""

    @abstractmethod
    def submit(self, change: Change) -> Submitted:
        """Ask for a change; changes are decided in the order in which they are submitted."""

    @abstractmethod
    def begin_leases_anew(self) -> None:
        """Give owners the time of their leases once more: for a while nobody could be heard."""

    @abstractmethod
    def keep_drift(self, drift: float) -> None:
        """Keep how far the machine's date is ahead of the clock, so that running jobs are counted
        on after a restart."""

    @abstractmethod
    async def start_once(self, change: StartJob) -> list[Entry]:
        """Start a job that has a key, unless one with the same key has been started under its
        connid. Raises `Repeated` where that one is running or still kept.

        It may be decided later than what is submitted meanwhile.
        """

    @abstractmethod
    async def annotate(self, change: Annotation) -> list[Entry]:
        """Add to the record of a run that has ended, however long ago, if it is still kept.

        A `StopJob` of a killed run may be submitted like any other change as well. Raises `Stale`,
        `Foreign`.
        """

    @abstractmethod
    async def take_due(self, limit: int) -> list[Due]:
        """Up to `limit` jobs that are due, for the caller to end; one that it does not end is due
        again a little later."""

    @abstractmethod
    async def until_due(self, most: float) -> None:
        """Wait until a job may be due, at most that many seconds."""

    @abstractmethod
    async def counts(self) -> Mapping[str, int]:
        """How many jobs are running in each room that has any."""

    @abstractmethod
    async def running(self, room: str, connid: str) -> Job | None:
        """The job that is running under `connid`, no change before this call being undecided."""

    @abstractmethod
    async def ended(self, room: str, connid: str, run: str | None = None) -> EndedJob | None:
        """The last ended job of `connid`, or the one of that `run`, where it is still kept."""

    @abstractmethod
    async def board(self, room: str) -> Board:
        """The room's board; it follows the log by itself and must not be changed."""

    @abstractmethod
    async def seq(self, room: str) -> int:
        """The seq at which a room stands. Does not fail after a change of that room."""

    @abstractmethod
    async def sweep(self) -> None:
        """Evict the rooms in which nothing is running, which nobody is in, and whose last event is
        older than `ROOM_RETENTION`: their logs, their ended jobs and all else."""

    @abstractmethod
    def announce(self, presence: Presence) -> None:
        """Say who of this server's clients is in a room."""

    @abstractmethod
    async def print(
        self, room: str, connid: str, run: str, text: str, owner: str | None = None
    ) -> None:
        """Keep the end of what a job prints for a while; no part of the log. Raises `Stale` where
        no such run is known, running or ended, and `Foreign` where it is not that of `owner`."""

    @abstractmethod
    async def printed(self, room: str, run: str, after: int = 0) -> Printed:
        """What is kept of what a run has printed after so many characters; the end of it, and
        nothing where nothing is kept any more."""

    @abstractmethod
    async def read(self, room: str, after: int) -> list[Entry] | None:
        """The entries of a room with a seq above `after`; None where not all are kept, or can be
        read."""

    @abstractmethod
    async def read_run(self, room: str, connid: str, run: str) -> list[Entry]:
        """The entries of one run that are still kept, while it is running or its end is kept."""

    @abstractmethod
    async def history(
        self, room: str, connid: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        """Up to `limit` ended jobs, newest first; those whose end has a seq below `before`."""


def due_at(job: Job, renewed_at: float) -> float:
    """When a job ends by itself, if its lease was last renewed at `renewed_at`."""
    return job.deadline if job.lease is None else min(job.deadline, renewed_at + job.lease)


def elapsed(how: KillDetails | FinishDetails) -> bool:
    """Whether a run is to end because its time is over."""
    return isinstance(how, FinishDetails) and how.outcome == "elapsed"


def may_extend(job: Job, change: ExtendJob) -> bool:
    """Whether a change may move the deadline of a job, which is that of its run."""
    return knows_deadline(job, change) and job.time + change.time <= change.most


def knows_deadline(job: Job, change: ExtendJob) -> bool:
    """Whether a change was asked for in view of the deadline that the job has."""
    return change.deadline is None or abs(change.deadline - job.deadline) < SAME


def ending(job: Job, seq: int, at: float, how: KillDetails | FinishDetails) -> Killed | Finished:
    """The event of a job's end, now that the log gives it a seq."""
    if isinstance(how, KillDetails):
        return Killed(job.room, seq, at, job.connid, job.run, how.by, how.via, how.reason)
    late = True if how.late else UNSET
    return Finished(job.room, seq, at, job.connid, job.run, how.outcome, how.result, late)


def check_whole(entries: Sequence[Entry], after: int, seq: int) -> None:
    """Raises `ValueError` where entries of a log are not all those after `after`, up to `seq` at
    least."""
    expected = after + 1
    for entry in entries:
        if entry.event.seq != expected:
            raise ValueError(f"entry {expected} is missing")
        expected += 1
    if expected <= seq:
        raise ValueError(f"entry {expected} is missing")


def too_many(config: Config, cap: str) -> TooMany:
    """The error for a start that exceeds one of the limits `running`, `room` and `rooms`."""
    if cap == "running":
        reached, then = (
            f"job limit reached (MAX_RUNNING={config.max_running})",
            "when one has ended",
        )
    elif cap == "room":
        limit = f"MAX_RUNNING_ROOM={config.max_running_room}"
        reached, then = f"job limit of the room reached ({limit})", "when one has ended"
    else:
        reached, then = f"room limit reached (MAX_ROOMS={config.max_rooms})", "in another room"
    return TooMany(f"{reached}: try again {then}")


def queue_full(config: Config) -> Unavailable:
    """The error for a change that exceeds the write queue."""
    return Unavailable(f"write queue full (MAX_PENDING={config.max_pending}): try again")
