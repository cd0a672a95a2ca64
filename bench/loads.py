"""The loads that servers are compared under, each on a new process of a server."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

from bench.crowd import Crowd, frame
from bench.rivals import Rival

DASHBOARDS = 200
BURST = 20
MANY = 1000
IDLE = 4000
WINDOW = 200
"""Commands under way."""
WARM_UP = 0.5
"""Seconds of the same load before anything is measured."""
SECONDS = 2.0
STEP_SECONDS = 1.2
"""How long each rate is tried."""
TRIES = 8
LEAST = 5
"""The lowest rate that is tried."""
CLOSE = 1.15
"""A rate is the highest when one that is so many times as high is too high."""
RAISE = 1.25
"""How many times as high the next rate is while none was too high."""
MOST_LATE = 0.1
"""Seconds that the p99 must stay under."""
LATE_SECONDS = 20
"""Long enough for a p99: with ten starts a second two of them are above it."""
LATE_RATE = 10
BEHIND = 2.0
"""Seconds after which a server that has not told everybody falls behind."""
RUNNING = 50
"""Jobs that run while others are started and ended."""

names = count(1)


class Figure(NamedTuple):
    """What one measurement of one round has come to."""

    value: float
    server: float | None = None
    """The part of the time in which the server used its core."""
    clients: float | None = None
    """The part of the time in which the clients had something to do."""
    alone: float | None = None
    """The value without the CPU of the server's helpers, where it has such."""


class Meter:
    """Looks at the clocks of a server and of its clients, from now on."""

    def __init__(self, rival: Rival, crowd: Crowd) -> None:
        self._rival = rival
        self._crowd = crowd
        self._begun, self._cpu, self._idle = time.perf_counter(), rival.cpu(), crowd.idle

    def per_cpu_second(self, done: int) -> Figure:
        """How much was done for each CPU second of the server."""
        took = time.perf_counter() - self._begun
        cpu = [now - then for now, then in zip(self._rival.cpu(), self._cpu, strict=True)]
        spent = sum(cpu)
        clients = 1 - (self._crowd.idle - self._idle) / took
        alone = done / cpu[-1] if len(cpu) > 1 else None
        return Figure(done / spent, spent / took, clients, alone)


@contextmanager
def serving(rival: Rival, dashboards: int) -> Iterator[Crowd]:
    """A new server with its clients, which have all heard what there was to hear."""
    rival.start()
    try:
        crowd = Crowd(rival.door, rival.port, dashboards)
        try:
            crowd.settle(rival.settles)
            crowd.mark()
            yield crowd
        finally:
            crowd.close()
    finally:
        rival.stop()


def start(rival: Rival, name: str) -> bytes:
    """The frame of a command that starts a job."""
    return command(rival, "request", {"connid": name, "time": 3600, "note": f"shard {name}"})


def kill(rival: Rival, name: str) -> bytes:
    """The frame of a command that ends a job."""
    return command(rival, "kill", {"connid": name})


def command(rival: Rival, name: str, fields: dict[str, object]) -> bytes:
    """The frame of a command."""
    payload = rival.door.command(name, fields)
    return payload if rival.door.path is None else frame(payload)


def fresh() -> str:
    """A name that no job has had."""
    return f"job-{next(names):07}"


def fan_out(rival: Rival, crowd: Crowd, burst: int) -> Figure:
    """Start `burst` jobs whenever all dashboards have heard of those before."""
    for seconds in (WARM_UP, SECONDS):
        crowd.mark()
        meter, begun, sent = Meter(rival, crowd), time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            crowd.send(b"".join(start(rival, fresh()) for _ in range(burst)))
            sent += burst
            crowd.until(sent)
        figure = meter.per_cpu_second(sent * crowd.size)
        crowd.prove()
    return figure


def commands(rival: Rival, crowd: Crowd) -> Figure:
    """Start jobs, `WINDOW` of them unanswered."""
    sent = crowd.answered = 0
    for seconds in (WARM_UP, SECONDS):
        meter, begun, before = Meter(rival, crowd), time.perf_counter(), crowd.answered
        while time.perf_counter() - begun < seconds:
            if room := WINDOW - (sent - crowd.answered):
                crowd.send(b"".join(start(rival, fresh()) for _ in range(room)))
                sent += room
            crowd.read()
        figure = meter.per_cpu_second(crowd.answered - before)
    return figure


def most(rival: Rival, guess: float) -> Figure:
    """The most jobs a second, started and ended, that everyone hears of in time.

    Goes up from a guess until a rate is too high, then between the two; 0 where all are too high.
    """
    rate, good, bad, found = max(guess, LEAST), 0.0, math.inf, Figure(0)
    tries = 0
    while tries < TRIES and bad > max(CLOSE * good, LEAST):
        with serving(rival, DASHBOARDS) as crowd:
            running = deque(fresh() for _ in range(RUNNING))
            crowd.send(b"".join(start(rival, name) for name in running))
            crowd.until(RUNNING)
            figure: Figure | None = found
            while figure is not None and tries < TRIES and bad > CLOSE * good:
                tries += 1
                figure = keeps_up(rival, crowd, running, rate)
                if figure is None:
                    bad = rate
                else:
                    good, found = rate, figure
                rate = math.sqrt(good * bad) if good and bad < math.inf else rate * RAISE
                if not good:
                    rate = max(bad / 2, LEAST)
    return found


def keeps_up(rival: Rival, crowd: Crowd, running: deque[str], rate: float) -> Figure | None:
    """Start and end jobs at a rate; None when the p99 is too late."""
    total = max(12, int(rate * STEP_SECONDS)) * 2
    due: list[float] = []
    crowd.mark()
    meter, begun = Meter(rival, crowd), time.perf_counter()
    while len(crowd.everywhere) < total:
        now = time.perf_counter()
        while len(due) < total and begun + len(due) / rate / 2 <= now:
            due.append(begun + len(due) / rate / 2)
            if len(due) % 2:
                running.append(fresh())
                crowd.send(start(rival, running[-1]))
            else:
                crowd.send(kill(rival, running.popleft()))
        crowd.read()
        if len(crowd.everywhere) < len(due) and now - due[len(crowd.everywhere)] > MOST_LATE * 5:
            return None
    figure = meter.per_cpu_second(total)
    crowd.prove()
    late = sorted(at - then for at, then in list(zip(crowd.everywhere, due, strict=True))[::2])
    return figure._replace(value=rate, alone=None) if part(late, 0.99) < MOST_LATE else None


def lateness(rival: Rival) -> tuple[list[float], Figure]:
    """How long it takes each of a few starts to be on very many dashboards: sorted, in ms.

    Infinitely long where the server falls behind.
    """
    with serving(rival, MANY) as crowd:
        due: list[float] = []
        for number in range(LATE_RATE):  # To warm up.
            crowd.send(start(rival, fresh()))
            crowd.until(number + 1)
        crowd.mark()
        meter, begun = Meter(rival, crowd), time.perf_counter()
        while len(crowd.everywhere) < LATE_RATE * LATE_SECONDS:
            now = time.perf_counter()
            if len(due) < LATE_RATE * LATE_SECONDS and begun + len(due) / LATE_RATE <= now:
                due.append(begun + len(due) / LATE_RATE)
                crowd.send(start(rival, fresh()))
            crowd.read()
            if len(crowd.everywhere) < len(due) and now - due[len(crowd.everywhere)] > BEHIND:
                return [math.inf], meter.per_cpu_second(len(due))
        figure = meter.per_cpu_second(len(due))
        crowd.prove()
        late = sorted(at - then for at, then in zip(crowd.everywhere, due, strict=True))
        return [each * 1000 for each in late], figure


def idle(rival: Rival) -> tuple[Figure, Figure]:
    """The KiB that a connection takes, and the ms of CPU for making it."""
    with serving(rival, 20) as crowd:
        memory, cpu = rival.memory(), rival.cpu()
        crowd.join(IDLE)
        crowd.settle(2)
        spent = sum(rival.cpu()) - sum(cpu)
        kib = (rival.memory() - memory) / IDLE / 1024
        return Figure(kib), Figure(spent / IDLE * 1000)


def part(values: list[float], share: float) -> float:
    """The value that this share of the sorted values is not above."""
    return values[math.ceil(len(values) * share) - 1]
