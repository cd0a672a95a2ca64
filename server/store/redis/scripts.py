"""What the scripts in `lua/` are given and what they answer: changes and jobs as bytes.

An event gets its seq and its time only in the script, and so do a job's times. They are cut out of
the JSON here, and put in there.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from server.board import Board, annotate, end
from server.config import Config
from server.contract.messages import (
    LOG_EVENTS,
    Amended,
    EndedJob,
    Extended,
    Finished,
    Job,
    Killed,
    LogEvent,
    Presence,
    Printed,
    Progress,
    Reported,
    Started,
    Stopped,
    encode,
)
from server.store.interface import (
    SAME,
    AmendJob,
    Change,
    Due,
    EndJob,
    Entry,
    ExtendJob,
    FinishDetails,
    Foreign,
    KillDetails,
    Repeated,
    Stale,
    StartJob,
    StopJob,
    due_at,
    ending,
    too_many,
)

LUA = Path(__file__).parent / "lua"
Arg = str | bytes | int | float

decode_job = msgspec.json.Decoder(Job).decode
decode_reported = msgspec.json.Decoder(Reported).decode
decode_presence = msgspec.json.Decoder(Presence).decode
decode_progress = msgspec.json.Decoder(Progress).decode
decode_amended = msgspec.json.Decoder(Amended).decode
decode_event = {name: msgspec.json.Decoder(kind).decode for name, kind in LOG_EVENTS.items()}


class Script(Struct, frozen=True):
    """A script, and the name by which Redis knows it once it is loaded."""

    text: bytes
    sha: str


@cache
def script(name: str) -> Script:
    """The script of a file, with the part that all have in common."""
    text = (LUA / "common.lua").read_bytes() + (LUA / f"{name}.lua").read_bytes()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest())


SCRIPTS = [path.stem for path in sorted(LUA.glob("*.lua")) if path.stem != "common"]


def arguments(change: Change | AmendJob, config: Config) -> list[Arg]:
    """The arguments of `change.lua` that tell the change, from `ARGV[9]` on."""
    if isinstance(change, StartJob):
        return _start(change, config)
    if isinstance(change, EndJob):
        run = change.how.run or ""
        job = _named(change.room, change.connid, "")
        before, after = _cut(ending(job, 0, 0.0, change.how))
        kind = Killed.name if isinstance(change.how, KillDetails) else Finished.name
        outcome = change.how.outcome if isinstance(change.how, FinishDetails) else ""
        what = (run, kind, before, after, outcome, *owned(change.owner))
        return ["end", change.room, change.connid, *what]
    if isinstance(change, ExtendJob):
        known = "" if change.deadline is None else repr(change.deadline)
        who = (change.actor.name, change.actor.via)
        before, after = _cut(Extended(change.room, 0, 0.0, change.connid, "", 0.0, 0.0, *who))
        after = after.removeprefix(b',"time":0.0,"deadline":0.0')
        what = (change.run or "", repr(change.time), repr(change.most), known, SAME, before, after)
        return ["extend", change.room, change.connid, *what]
    if isinstance(change, StopJob):
        where = (change.room, change.connid, change.run)
        before, after = _cut(Stopped(change.room, 0, 0.0, change.connid, "", change.exit))
        return ["stop", *where, before, after, encode(change.exit), *owned(change.owner)]
    if isinstance(change, AmendJob):
        where = (change.room, change.connid, change.run)
        said = (change.outcome, change.result)
        before, after = _cut(Amended(change.room, 0, 0.0, change.connid, "", *said))
        return ["amend", *where, before, after, "", *owned(change.owner)]
    progress = change.progress
    words = encode(Reported(progress.done, progress.note))[:-1]
    body = encode(msgspec.structs.replace(progress, at=0.0))
    rest = body.removeprefix(b'{"room":"%b","at":0.0,' % progress.room.encode())
    what = (progress.run, words, rest, *owned(change.owner))
    return ["report", progress.room, progress.connid, *what]


def owned(owner: str | None) -> list[Arg]:
    """The last argument of a script: who must own the job; none where that may be anybody."""
    return [] if owner is None else [owner]


def _start(change: StartJob, config: Config) -> list[Arg]:
    job, kill = change.job, change.replaces
    timeless = encode(msgspec.structs.replace(job, started_at=0.0, deadline=0.0))
    before, _, after = timeless.partition(b'"started_at":0.0,"deadline":0.0')
    lease = "-" if job.lease is None else repr(job.lease)
    killing: tuple[bytes, bytes] = (b"", b"")
    if kill is not None:
        killing = _cut(ending(_named(job.room, job.connid, ""), 0, 0.0, kill))
    caps = (config.max_running, config.max_running_room, config.max_rooms)
    key: list[Arg] = []
    if job.key:
        key = [job.key, job.by, *(["owned"] if change.owner else [])]
    what = (job.run, repr(job.time), lease, before, after, *killing, *caps, *key)
    return ["start", job.room, job.connid, *what]


def _cut(event: LogEvent) -> tuple[bytes, bytes]:
    """The JSON of an event without its room, seq, at and run: what is before the run, and after."""
    head = b'{"room":"%b","seq":0,"at":0.0,' % event.room.encode()
    before, _, after = encode(event).removeprefix(head).partition(b'"run":""')
    return before, after


def _named(room: str, connid: str, run: str) -> Job:
    return Job(connid=connid, run=run, room=room, time=0, started_at=0, deadline=0, by="")


def check(reply: list[Any]) -> None:
    """Raises `Stale` or `Foreign` when this is what a script has answered."""
    if reply[0] == b"stale":
        raise Stale(looked(reply))
    if reply[0] == b"foreign":
        raise Foreign(reply[1].decode())


def looked(reply: list[Any]) -> Job | None:
    """The running job that a look has found."""
    return running(reply[1], reply[2]) if reply[1] else None


def changed(reply: list[Any], config: Config) -> list[Entry]:
    """The entries that a change has made. Raises `Stale`, `Foreign`, `Repeated`, `TooMany`."""
    check(reply)
    if reply[0] == b"again":
        raise Repeated(running(*reply[1:]) if len(reply) == 3 else _ended(*reply[1:]))
    if reply[0] == b"full":
        raise too_many(config, reply[1].decode())
    entries = []
    for kind, _, body, *job in reply[2]:
        event = decode_event[kind.decode()](body)
        become: Job | EndedJob | None = None
        if isinstance(event, Started):
            become = event.job
        elif isinstance(event, Extended):
            become = _reported(decode_job(job[0]), job[1])
        elif isinstance(event, Killed | Finished):
            become = end(_reported(decode_job(job[0]), job[1]), event)
        elif job:
            become = _ended(*job)
        entries.append(Entry(event, body, None if become is None else Raw(encode(become))))
    return entries


def running(value: bytes, report: bytes) -> Job:
    """A running job as Redis keeps it, with its last report."""
    return _reported(decode_job(value.split(b" ", 4)[4]), report)


def taken(reply: list[Any]) -> list[Due]:
    """The jobs that were taken because they are due, in the order in which they came due."""
    opened_at = float(reply[2])
    found = []
    for value, renewed_at in reply[3]:
        job = running(value, b"")
        at = due_at(job, float(renewed_at or 0))
        found.append(Due(job, at, at <= opened_at))
    return sorted(found, key=lambda due: (due.at, due.job.run))


def ended(rows: Iterable[Sequence[bytes]]) -> list[EndedJob]:
    """Ended jobs from the events of their ends, and the jobs as they were until then."""
    return [_ended(*row) for row in rows]


def _ended(
    kind: bytes, body: bytes, job: bytes, report: bytes, state: bytes, amendment: bytes
) -> EndedJob:
    event = decode_event[kind.decode()](body)
    assert isinstance(event, Killed | Finished), "only ends have a job beside them"
    found = end(_reported(decode_job(job), report), event)
    told = state.split(b" ")
    if len(told) >= 6 and told[3] != b"-":
        exit = msgspec.json.decode(told[4], type=int | None)
        at = float(told[5])
        found = annotate(
            found, Stopped(event.room, int(told[3]), at, event.connid, event.run, exit)
        )
    if amendment:
        found = annotate(found, decode_amended(amendment))
    return found


def entries(items: Iterable[Sequence[bytes]]) -> list[Entry]:
    """Entries of a log from their kinds and bodies."""
    return [Entry(decode_event[kind.decode()](body), body) for kind, body in items]


def logged(stream: Iterable[tuple[bytes, list[bytes]]]) -> list[Entry]:
    """Entries of a log from its stream."""
    texts = (fields[1].partition(b"\n") for _, fields in stream)
    return entries((head.partition(b" ")[0], body) for head, _, body in texts)


def printed(reply: list[Any], after: int) -> Printed:
    """What a run has printed after so many characters, of what is kept."""
    texts = [(int(offset), text.decode()) for offset, _, text in map(_parts, reply[1])]
    if not texts:
        return Printed(after, "")
    first = texts[0][0]
    offset = max(first, after)
    return Printed(offset, "".join(text for _, text in texts)[offset - first :])


def _parts(value: bytes) -> tuple[bytes, bytes, bytes]:
    return value.partition(b"\n")


def fill(board: Board, reply: list[Any]) -> None:
    """Bring a board to what `board.lua` has read."""
    reports = pairs(reply[4])
    # In the order of their starts, as whoever has followed them has them.
    values = sorted(reply[3], key=lambda value: int(value.partition(b" ")[0]))
    jobs = (decode_job(value.split(b" ", 4)[4]) for value in values)
    board.seq = reply[2]
    board.running = {
        job.connid: _reported(job, reports.get(job.connid.encode(), b"")) for job in jobs
    }
    board.leave_ended()
    board.recall(reversed(ended(reply[5])))


def pairs(flat: Sequence[Any]) -> dict[bytes, Any]:
    """A hash from its keys and values in turn."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _reported(job: Job, report: bytes) -> Job:
    if report:
        job.progress = decode_reported(report)
    return job
