"""The messages of the protocol as typed structs: jobs, events of the log, commands, answers.

Instants end in `_at` (or are called `at`, `now`, `deadline`) and are seconds since the Unix epoch
by the server's clock; bare durations are seconds. `docs/protocol.md` tells the whole contract.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

encode = msgspec.json.Encoder(decimal_format="number").encode

Outcome = Literal["elapsed", "done", "failed", "lost"]
Stoppable = Literal["yes", "cooperative", "no"]
Via = Literal["socket", "websocket", "http", "cli", "server"]

NULL = Raw(b"null")


class Reported(Struct, frozen=True, gc=False):
    """How far the owner says that its work is: `done` from 0 to 1, each None when not told.

    `at` is when it has said so; it is left out where an older server has kept the report.
    """

    done: float | None = None
    note: str | None = None
    at: float | UnsetType = UNSET


class Job(Struct, kw_only=True, gc=False):
    """A running job. Only `progress` ever changes, and `time` and `deadline` by an `extended`.

    It is in no cycle, so the collector need not look at it: there may be a hundred thousand.
    """

    connid: str
    run: str
    room: str
    state: Literal["running"] = "running"
    time: float
    started_at: float
    deadline: float
    by: str
    note: str | None = None
    progress: Reported | None = None
    lease: float | None = None
    stoppable: Stoppable | UnsetType = UNSET
    """What a kill can do to the work, as its owner says."""
    key: str | UnsetType = UNSET
    """What tells its request from another one; that of who started it."""


class EndedJob(Struct, kw_only=True, frozen=True):
    """A job that was killed or has finished; `seq` is the position of its end in the log.

    `by` is who killed it, or who started it when nobody did; `started_by` always is the latter.
    """

    connid: str
    run: str
    room: str
    state: Literal["killed", "finished"]
    seq: int
    time: float
    started_at: float
    deadline: float
    ended_at: float
    started_by: str
    by: str
    note: str | None = None
    progress: Reported | None = None
    lease: float | None = None
    reason: str | None = None
    via: Via | None = None
    outcome: Outcome | None = None
    result: Raw = NULL
    late: bool = False
    exit: int | None = None
    stopped_at: float | None = None
    stoppable: Stoppable | UnsetType = UNSET
    key: str | UnsetType = UNSET
    amended_at: float | UnsetType = UNSET
    """When its owner said how it truly ended, where it had ended as `lost`."""


class _Started(Struct):
    """A `started` whose job is in JSON already."""

    room: str
    seq: int
    at: float
    job: Raw


class Started(Struct, frozen=True):
    """A job has begun to run."""

    name: ClassVar[str] = "started"
    room: str
    seq: int
    at: float
    job: Job

    @property
    def connid(self) -> str:
        return self.job.connid

    @property
    def run(self) -> str:
        return self.job.run

    def encoded(self, job: Raw) -> bytes:
        """The event in JSON, when that of its job is at hand."""
        return encode(_Started(self.room, self.seq, self.at, job))


class Killed(Struct, frozen=True):
    """Somebody ended the job before its time."""

    name: ClassVar[str] = "killed"
    room: str
    seq: int
    at: float
    connid: str
    run: str
    by: str
    via: Via
    reason: str | None = None


class Extended(Struct, frozen=True):
    """The job may run longer: for `time` seconds in all, until `deadline`."""

    name: ClassVar[str] = "extended"
    room: str
    seq: int
    at: float
    connid: str
    run: str
    time: float
    deadline: float
    by: str
    via: Via


class Finished(Struct, frozen=True):
    """The job ended by itself; `late` is set when that was noticed after its time."""

    name: ClassVar[str] = "finished"
    room: str
    seq: int
    at: float
    connid: str
    run: str
    outcome: Outcome
    result: Raw = NULL
    late: bool | UnsetType = UNSET


class Stopped(Struct, frozen=True):
    """The owner of a job that was ended for it says that the work has really stopped."""

    name: ClassVar[str] = "stopped"
    room: str
    seq: int
    at: float
    connid: str
    run: str
    exit: int | None = None


class Amended(Struct, frozen=True):
    """The owner of a lost job says how its work truly ended."""

    name: ClassVar[str] = "amended"
    room: str
    seq: int
    at: float
    connid: str
    run: str
    outcome: Outcome
    result: Raw = NULL


LogEvent = Started | Extended | Killed | Finished | Stopped | Amended
LOG_EVENTS: dict[str, type[LogEvent]] = {
    kind.name: kind for kind in (Started, Extended, Killed, Finished, Stopped, Amended)
}


class Snapshot(Struct, frozen=True):
    """All running jobs of a room and its last ended ones, the oldest first, as of `seq`."""

    name: ClassVar[str] = "snapshot"
    room: str
    epoch: str
    seq: int
    now: float
    running: list[Job]
    ended: list[EndedJob]


class State(Struct):
    """What all snapshots of a room have in common while nothing changes in it."""

    running: list[Job]
    ended: list[EndedJob]


class Progress(Struct, frozen=True):
    """The latest report of a running job, made `at` that time: not part of the log, so it has no
    `seq`."""

    name: ClassVar[str] = "progress"
    room: str
    at: float
    connid: str
    run: str
    done: float | None = None
    note: str | None = None


class Printed(Struct, frozen=True):
    """A part of what a run has printed, after `offset` characters."""

    offset: int
    text: str


class Output(Struct, frozen=True):
    """What a job has printed after `offset` characters, for those who watch it: not in the log."""

    name: ClassVar[str] = "output"
    room: str
    connid: str
    run: str
    offset: int
    text: str


class Presence(Struct, frozen=True):
    """How many clients are in a room, and the first names of them."""

    name: ClassVar[str] = "presence"
    room: str
    watching: int
    names: list[str]


class Available(Struct, frozen=True):
    """Whether the server has its store: when not, what is shown may be old."""

    name: ClassVar[str] = "available"
    room: str
    available: bool


class Closing(Struct, frozen=True):
    """Why the server is about to end the connection, with the code of an error."""

    name: ClassVar[str] = "closing"
    code: str
    message: str


class Frame:
    """An event encoded once, for however many clients; `framed` is the transport's to keep."""

    __slots__ = ("_plain", "body", "framed", "name")

    def __init__(self, name: str, body: bytes) -> None:
        self.name = name
        self.body = body
        self.framed: Any = None
        self._plain: bytes | None = None

    def plain(self) -> bytes:
        """The event as one object that names itself, as plain WebSockets and `status` have it."""
        if self._plain is None:
            self._plain = b'{"event":"%b",%b' % (self.name.encode(), self.body[1:])
        return self._plain


# Some fields are wider on the wire than in a checked message (see `checks.py`): a number for a
# connid, 12.0 for 12, a numeric string for a time, a text with commas for names, and nothing at all
# where there is a default.
if TYPE_CHECKING:
    ConnId = str
    Whole = int
    Seconds = float
    Default = str
    Ending = Literal["done", "failed"]
    CanStop = Stoppable | None
    Limit = int
    Names = list[str]
    Positions = dict[str, "Since | None"]
else:
    ConnId = str | int | float
    Whole = int | float
    Seconds = float | int | str
    Default = str | None
    Ending = str | None
    CanStop = str | None
    Limit = int | float | None
    Names = list[str] | str | None
    Positions = dict[str, "Since | None"] | None


class Since(Struct, frozen=True):
    """The position that a client has reached in a room's log."""

    epoch: str
    seq: Whole


class Hello(Struct, kw_only=True):
    """What a client says of itself when it connects."""

    token: str | None = None
    name: str | None = None
    via: Literal["cli"] | None = None
    rooms: Names = msgspec.field(default_factory=lambda: ["main"])
    since: Positions = msgspec.field(default_factory=dict)


class Request(Struct, kw_only=True):
    name: ClassVar[str] = "request"
    connid: ConnId
    time: Seconds
    room: Default = "main"
    note: str | None = None
    lease: Seconds | None = None
    if_running: Default = "reject"
    stoppable: CanStop = None
    key: str | None = None
    route: str | None = None


class Kill(Struct, kw_only=True):
    name: ClassVar[str] = "kill"
    connid: ConnId
    room: Default = "main"
    run: str | None = None
    reason: str | None = None
    route: str | None = None


class Extend(Struct, kw_only=True):
    name: ClassVar[str] = "extend"
    connid: ConnId
    time: Seconds
    room: Default = "main"
    run: str | None = None
    deadline: float | None = None
    route: str | None = None


class Status(Struct, kw_only=True):
    name: ClassVar[str] = "status"
    room: Default = "main"
    connid: ConnId | None = None
    since: Since | None = None
    route: str | None = None


class Finish(Struct, kw_only=True):
    name: ClassVar[str] = "finish"
    connid: ConnId
    run: str
    room: Default = "main"
    outcome: Ending = "done"
    result: Any = NULL
    route: str | None = None


class Report(Struct, kw_only=True):
    name: ClassVar[str] = "progress"
    connid: ConnId
    run: str
    room: Default = "main"
    done: float | None = None
    note: str | None = None
    route: str | None = None


class Stop(Struct, kw_only=True):
    name: ClassVar[str] = "stopped"
    connid: ConnId
    run: str
    room: Default = "main"
    exit: Whole | None = None
    route: str | None = None


class Print(Struct, kw_only=True):
    name: ClassVar[str] = "output"
    connid: ConnId
    run: str
    room: Default = "main"
    text: str
    route: str | None = None


class Join(Struct, kw_only=True):
    name: ClassVar[str] = "join"
    room: str
    connid: ConnId | None = None
    since: Since | None = None
    route: str | None = None


class Leave(Struct, kw_only=True):
    name: ClassVar[str] = "leave"
    room: str
    connid: ConnId | None = None
    route: str | None = None


class History(Struct, kw_only=True):
    name: ClassVar[str] = "history"
    room: Default = "main"
    connid: ConnId | None = None
    before: Whole | None = None
    limit: Limit = 50
    route: str | None = None


class ListRooms(Struct, kw_only=True):
    name: ClassVar[str] = "rooms"
    room: Default = "main"
    route: str | None = None


Command = (
    Request
    | Kill
    | Extend
    | Status
    | Finish
    | Report
    | Stop
    | Print
    | Join
    | Leave
    | History
    | ListRooms
)
COMMANDS: dict[str, type[Command]] = {kind.name: kind for kind in get_args(Command)}


class RoomCount(Struct, frozen=True):
    """How many jobs are running in a room."""

    room: str
    running: int


class Answer(Struct, omit_defaults=True, kw_only=True):
    """What a command that was carried out is answered; fields that do not apply are left out."""

    ok: bool
    result: str
    room: str
    epoch: str
    seq: int
    repeated: bool = False
    now: float | None = None
    job: Job | EndedJob | Raw | None = None
    jobs: list[Any] | None = None
    events: list[Raw] | None = None
    rooms: list[RoomCount] | None = None
    output: Printed | None = None
    before: int | UnsetType | None = UNSET


class Problem(Struct, omit_defaults=True):
    """What was wrong with a command, inside a `Refusal`."""

    code: str
    message: str
    field: str | None = None
    retry_after: float | None = None
    unknown: bool = False


class Refusal(Struct, omit_defaults=True, kw_only=True):
    """What a command that was not carried out is answered; `job` is what stood in its way."""

    ok: bool
    error: Problem
    job: Job | EndedJob | None = None
