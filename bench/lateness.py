"""How late jobs end that come due in a steady stream, while many others are pending."""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.report import Table, medians, spread
from bench.servers import Server, fill, job
from bench.wire import SocketIO, connect
from server.contract.messages import Job

ROOM = "main"
ABOUT = """{rate:,} jobs a second come due for {seconds} s, evenly spread, while {jobs:,} others are
pending in other rooms and one Socket.IO client is in the room. "Ended" is `ended_at - deadline`, as
the server stamps it; "seen" is when the client had read the event, by the same clock. Each is of
the {ends:,} ends of a round; {medians}. The server took {cpu} CPU seconds for each thousand ends,
and its threads waited {waited} s for a core while {seconds} s passed: the more, the busier the
machine was with other things."""


class Round(NamedTuple):
    """What one server did; everything in seconds."""

    ended: list[float]
    """How long after its deadline each job ended, as the server says."""
    seen: list[float]
    """How long after its deadline the client had heard of each end."""
    cpu: float
    waited: float


async def measure(
    jobs: int, rate: int, seconds: int, rounds: int, filled: Path, scratch: Path
) -> Table:
    """Let the same jobs come due in a new server for each round."""
    found = []
    for number in range(rounds):
        path = scratch / f"lateness-{number}.db"
        shutil.copy(filled, path)
        found.append(await _round(path, rate, seconds, lead=5 + jobs / 40_000))
    ends = rate * seconds
    cpu = spread((round.cpu / ends * 1000 for round in found), 3)
    waited = spread((round.waited for round in found), 1)
    about = ABOUT.format(
        rate=rate,
        seconds=seconds,
        jobs=jobs,
        ends=ends,
        medians=medians(rounds),
        cpu=cpu,
        waited=waited,
    )
    table = Table("Lateness of ends", about, ("after the deadline, ms", "median", "p99", "max"))
    table.rows += [
        _row("ended", [round.ended for round in found]),
        _row("seen by the client", [round.seen for round in found]),
    ]
    return table


async def _round(path: Path, rate: int, seconds: int, lead: float) -> Round:
    """Let jobs come due in a server of its own.

    `lead` is how many seconds there are to get ready in.
    """
    first = time.time() + lead
    due = {job.connid: job.deadline for job in _due(first, rate, seconds)}
    await fill(path, _due(first, rate, seconds))
    async with Server(path) as server:
        watcher = await connect(SocketIO, server.port, ROOM)
        heard: list[tuple[float, bytes]] = []
        watcher.on_message = lambda payload: heard.append((time.time(), payload))
        spent, waited = server.cpu(), server.waited()
        ready = time.time()
        if ready > first - 0.2:
            raise RuntimeError("the machine is too slow to get ready before the first deadline")
        await asyncio.sleep(first + seconds + 1 - ready)
        spent, waited = server.cpu() - spent, server.waited() - waited
        watcher.close()
    ended = [(at, *_finished(payload)) for at, payload in heard if b'["finished"' in payload]
    if sorted(connid for _, connid, _ in ended) != sorted(due):
        raise RuntimeError(f"{len(due)} jobs came due and the client heard of {len(ended)}")
    stamped = [ended_at - due[connid] for _, connid, ended_at in ended]
    seen = [at - due[connid] for at, connid, _ in ended]
    return Round(stamped, seen, spent, waited)


def _due(first: float, rate: int, seconds: int) -> Iterator[Job]:
    """The jobs that come due one after the other from `first` on."""
    now = time.time()
    for index in range(rate * seconds):
        yield job(index, ROOM, now, first + index / rate)


def _finished(payload: bytes) -> tuple[str, float]:
    """The connid of a `finished` event, and when the job ended."""
    _, event = json.loads(payload[2:])
    return event["connid"], event["at"]


def _row(name: str, rounds: list[list[float]]) -> tuple[str, ...]:
    each = [sorted(times) for times in rounds]
    parts = (0.5, 0.99, 1)
    return name, *(spread((_at(times, part) * 1000 for times in each), 2) for part in parts)


def _at(times: list[float], part: float) -> float:
    """The time that this part of the sorted `times` is not above."""
    return times[min(len(times) - 1, int(len(times) * part))]
