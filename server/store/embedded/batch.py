"""What the embedded store writes at a time, and what a place to write it to must be able to do."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from server.board import Board
from server.contract.messages import LOG_EVENTS, EndedJob
from server.store.interface import Entry

decode_ended = msgspec.json.Decoder(EndedJob).decode
_decode_event = {name: msgspec.json.Decoder(kind).decode for name, kind in LOG_EVENTS.items()}


LogRow = tuple[str, int, str, str, bytes]
"""An entry of the log: room, seq, run, name, body."""

EndedRow = tuple[str, int, str, str, int, str | None, bytes]
"""room, seq, connid, run, whether its owner may still say that it stopped, key, job"""


@dataclass(slots=True)
class Batch:
    """The rows of one commit."""

    log: list[LogRow] = field(default_factory=list)
    running: dict[str, bytes | None] = field(default_factory=dict)
    """The running job by its run, None when it has ended."""
    ended: list[EndedRow] = field(default_factory=list)
    stopped: list[tuple[int, int | None, str, str, int]] = field(default_factory=list)
    """seq, exit, stopped_at as JSON, room, seq of the job's end"""
    extended: list[tuple[str, int, str]] = field(default_factory=list)
    """room, seq, run of each deadline that was moved"""
    annotated: list[tuple[str, int, str, int, bytes]] = field(default_factory=list)
    """room, seq of the job's end; name and seq of what was said of it since; job"""
    trimmed: dict[str, int] = field(default_factory=dict)
    """The last seq of each room that is no longer kept."""
    drift: float | None = None
    """How far the machine's date is ahead of the clock, where that is to be kept."""
    evicted: dict[str, int] = field(default_factory=dict)
    """The rooms of which nothing is kept but what this batch adds, each with the seq, above all
    that it had, at which it stands before that."""


class Unanswered(Struct, frozen=True, gc=False):
    """A killed run whose owner has not said that the work has stopped. There may be many."""

    seq: int
    """The seq of its end."""
    connid: str
    owner: str


@dataclass(slots=True)
class Loaded:
    """What was kept of one room when its store is opened."""

    board: Board
    oldest: int
    """The first seq that is still kept."""
    last_at: float = 0.0
    """When its last job has ended, or has stopped."""
    unanswered: dict[str, Unanswered] = field(default_factory=dict)
    """By run."""


class Lost(Exception):
    """What is kept is no longer where it was left; the message says what has become of it."""

    def __init__(self, message: str, *, whole: bool = True) -> None:
        """`whole` is whether all of it can be reached still, by who has it open."""
        super().__init__(message)
        self.whole = whole


class Backend(ABC):
    """Where the rows of an embedded store are kept."""

    blocks: bool
    """Whether its methods may wait for a disk: then they are called from one thread of their own,
    and from the event loop otherwise."""

    @property
    def unwritable(self) -> str:
        """Why it could only be opened to be read; empty where it can be written as well."""
        return ""

    @abstractmethod
    def open(self) -> tuple[str, dict[str, Loaded]]:
        """The id of the log, and what is kept of each room. Raises `StoreError`."""

    @abstractmethod
    def clock(self) -> tuple[float, float]:
        """How far the machine's date was ahead of the clock, and when the last event was; both 0
        where nothing is kept."""

    @abstractmethod
    def floor(self) -> int:
        """The seq at which a room without a log stands; 0 where no log was ever evicted."""

    @abstractmethod
    def close(self) -> None:
        """Release everything; closing twice is as good as once."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Keep a batch, whole or not at all. Raises `sqlite3.Error`, and `Lost` where `check` did
        and has not found all well since."""

    @abstractmethod
    def check(self) -> None:
        """Look whether all is where it was left. Raises `Lost`."""

    @abstractmethod
    def probe(self, size: int) -> None:
        """Write so many bytes that say nothing. Raises `sqlite3.Error`."""

    @abstractmethod
    def read(self, room: str, after: int) -> list[Entry]:
        """The entries of a room with a seq above `after`."""

    @abstractmethod
    def read_run(self, room: str, connid: str, run: str) -> list[Entry]:
        """The entries of one run of a connid."""

    @abstractmethod
    def history(
        self, room: str, connid: str | None, run: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        """Up to `limit` ended jobs, newest first, of one connid where it is given; those whose end
        has a seq below `before`. With a run of that connid only that one."""

    @abstractmethod
    def started_with(self, room: str, connid: str, key: str) -> list[EndedJob]:
        """The ended jobs of a connid that were requested with a key, newest first: one for each
        owner who has used it."""


def entry(name: str, body: bytes) -> Entry:
    """The entry of the log that a row tells of."""
    return Entry(_decode_event[name](body), body)
