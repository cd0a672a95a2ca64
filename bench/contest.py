"""Hourglass beside its peers: the same load on each, in turns, on a core of its own."""

import json
import math
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from bench.loads import (
    BURST,
    DASHBOARDS,
    IDLE,
    LATE_RATE,
    MANY,
    MOST_LATE,
    WINDOW,
    Figure,
    commands,
    fan_out,
    idle,
    lateness,
    most,
    part,
    serving,
)
from bench.report import Table, counted
from bench.rivals import (
    CORES,
    PEERS,
    Channels,
    Hourglass,
    InMemory,
    Limit,
    Missing,
    Node,
    Rival,
    Stock,
)

IDLE_ROUNDS = 2
"""The figures of idle connections differ little from round to round."""

ABOUT = """The same small service on other foundations, with the same clients: `bench/peers` has it.
Each server runs on one core, its clients on the other, all in one room; a new process serves each
of the measurements. The servers take turns in {rounds}, and the table has the
medians; in brackets the figure of Hourglass divided by that of the peer, the median of the rounds,
first that of its file, then that of `:memory:` where that was measured too.
CPU seconds are those of all processes of a server. Clients offer compression and send headers as
browsers do; stock python-socketio and uvicorn, which serves Channels, take the offer as they come.
What lasts long was measured in fewer rounds: idle connections in {idle_rounds}, and of Channels all
below the third row in the first. Hourglass writes to its file and syncs, as it does by default, but
where `:memory:` is said; its peers keep nothing. `send()` in a loop is a C program that sends the
frame of an event, of the same size, to each client and does nothing else; a burst goes out in one
call. {versions}. {missing}"""
BUSY = """Of the same measurements: lowest and highest figure, then the part of the time in which
the server used its core, and in which the clients had anything to read or to send; then what part
of that CPU time Redis used. Clients that have less to do than the server do not hold it up; a
server that waits for them uses no CPU meanwhile."""

MEASURES: dict[str, tuple[str, int]] = {
    "one": (f"to {DASHBOARDS} dashboards, an event at a time: deliveries a CPU s", 0),
    "twenty": (f"to {DASHBOARDS} dashboards, {BURST} at a time: deliveries a CPU s", 0),
    "commands": (f"starts answered, {WINDOW} under way, nobody watching: a CPU s", 0),
    "most": (f"jobs started and ended a second, p99 below {MOST_LATE * 1000:.0f} ms", 0),
    "p50": (f"start until {MANY:,} dashboards have it, {LATE_RATE} a second: median, ms", 1),
    "p99": ("the same: p99, ms", 1),
    "memory": (f"KiB for each of {IDLE:,} idle connections", 1),
    "connect": ("CPU ms for each of these to connect", 3),
}
"""What is measured, and how many digits its figures have after the point."""

Found = dict[tuple[str, str], list[Figure]]
"""The figures of each measurement and server, round by round."""


async def measure(rounds: int, scratch: Path) -> list[Table]:
    """All servers in each round, beginning with another one each time."""
    rivals, missing = installed(scratch)
    found: Found = defaultdict(list)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORES[-1]})
    try:
        for number in range(rounds):
            for rival in rivals[number % len(rivals) :] + rivals[: number % len(rivals)]:
                begun = time.perf_counter()
                try:
                    compete(rival, number, found)
                except (Missing, OSError, RuntimeError) as error:
                    if isinstance(rival, Hourglass):
                        raise
                    missing += f" {rival.name} has failed in round {number + 1}: {error}."
                took = time.perf_counter() - begun
                print(f"round {number + 1}, {rival.name}: {took:.0f} s", file=sys.stderr)
    finally:
        os.sched_setaffinity(0, mine)
    return tables(found, rivals, rounds, missing)


def installed(scratch: Path) -> tuple[list[Rival], str]:
    """The servers that can be run here, and what is to be said of the others."""
    rivals: list[Rival] = []
    missing: list[str] = []
    kinds: tuple[type[Rival], ...] = (Hourglass, InMemory, Node, Stock, Channels, Limit)
    for kind in kinds:
        rival = kind(scratch)
        try:
            rival.install()
        except Missing as error:
            missing.append(f"Not measured: {rival.name}, since {error}.")
        else:
            rivals.append(rival)
    return rivals, " ".join(missing)


def compete(rival: Rival, number: int, found: Found) -> None:
    """Measure all that makes sense for a server."""

    def note(name: str, figure: Figure) -> None:
        found[name, rival.name].append(figure)

    with serving(rival, DASHBOARDS) as crowd:
        one, twenty = fan_out(rival, crowd, 1), fan_out(rival, crowd, BURST)
        note("one", one)
        note("twenty", twenty)
    if isinstance(rival, Hourglass):
        Limit.size = crowd.frame_size
    if isinstance(rival, Limit):
        return
    with serving(rival, 0) as crowd:
        note("commands", commands(rival, crowd))
    if isinstance(rival, InMemory) or (number and isinstance(rival, Channels)):
        return
    before = max((figure.value for figure in found["most", rival.name]), default=0)
    guess = before * 0.8 or twenty.value / DASHBOARDS / 3
    note("most", most(rival, guess))
    late, figure = lateness(rival)
    note("p50", figure._replace(value=part(late, 0.5), alone=None))
    note("p99", figure._replace(value=part(late, 0.99), alone=None))
    if number < IDLE_ROUNDS:
        memory, connect = idle(rival)
        note("memory", memory)
        note("connect", connect)


def tables(found: Found, rivals: list[Rival], rounds: int, missing: str) -> list[Table]:
    """The medians with their ratios; and how steady they are, and how busy everybody was."""
    head = ("", *(rival.name for rival in rivals))
    about = ABOUT.format(
        rounds=counted(rounds),
        idle_rounds=min(rounds, IDLE_ROUNDS),
        versions=versions(),
        missing=missing,
    )
    medians = Table("Beside its peers", about, head)
    steady = Table("How steady, how busy", BUSY, head)
    for name, (title, digits) in MEASURES.items():
        each = [found.get((name, rival.name), []) for rival in rivals]
        ours = [found.get((name, kind.name), []) for kind in (Hourglass, InMemory)]
        medians.rows.append((title, *(cell(theirs, ours, digits) for theirs in each)))
        steady.rows.append((title, *(busy(theirs, digits) for theirs in each)))
    return [medians, steady]


def cell(theirs: list[Figure], ours: list[list[Figure]], digits: int) -> str:
    """The median, and the ratios of each of ours to it."""
    if not theirs:
        return ""
    median = statistics.median(figure.value for figure in theirs)
    text = f"{median:,.{digits}f}" if 0 < median < math.inf else "falls behind"
    if any(theirs is own for own in ours) or median in (0, math.inf):
        return text
    ratios = []
    for own in filter(None, ours):
        pairs = [pair for pair in zip(own, theirs, strict=False) if pair[1].value]
        ratios.append(f"{statistics.median(our.value / their.value for our, their in pairs):.2f}")
    return f"{text} ({', '.join(ratios)})"


def busy(figures: list[Figure], digits: int) -> str:
    """The lowest and the highest figure, and the parts of the time."""
    if not figures:
        return ""
    values = [figure.value for figure in figures if figure.value < math.inf]
    text = f"{min(values):,.{digits}f} to {max(values):,.{digits}f}" if values else "no figure"
    shares = [(figure.server, figure.clients) for figure in figures if figure.server is not None]
    if shares:
        server, clients = (statistics.median(column) for column in zip(*shares, strict=True))
        text += f"; {server * 100:.0f} %, {clients * 100:.0f} %"
    helped = [1 - figure.value / figure.alone for figure in figures if figure.alone]
    if helped:
        text += f"; {statistics.median(helped) * 100:.0f} %"
    return text


def versions() -> str:
    """The versions of what the peers are made of."""
    pinned = dict(
        line.split("==")
        for line in (PEERS / "requirements.txt").read_text().splitlines()
        if "==" in line
    )
    wanted = json.loads((PEERS / "package.json").read_text())["dependencies"]
    names = ("python-socketio", "aiohttp", "channels", "channels_redis", "Django", "uvicorn")
    known = [f"socket.io {wanted['socket.io']}", *(f"{name} {pinned[name]}" for name in names)]
    for program in ("node", "redis-server", "cc"):
        if shutil.which(program):
            done = subprocess.run([program, "--version"], capture_output=True, text=True)
            if number := re.search(r"\d+\.\d+\.\d+", done.stdout):
                known.append(f"{program} {number[0]}")
    return "Versions: " + ", ".join(known)
