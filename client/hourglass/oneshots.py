"""One command, its answer, and no more: start, kill, extend, status and history."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from hourglass.formatting import duration, ending, facts, instant, percent, printable, time_left
from hourglass.session import connected
from hourglass.settings import Json, Settings


async def start(options: argparse.Namespace, settings: Settings) -> Json:
    return await once(
        settings,
        "request",
        connid=options.name,
        time=options.time,
        lease=options.lease or None,
        note=options.note,
        if_running=options.if_running,
        key=options.key,
    )


async def kill(options: argparse.Namespace, settings: Settings) -> Json:
    return await once(settings, "kill", connid=options.name, run=options.run, reason=options.reason)


async def extend(options: argparse.Namespace, settings: Settings) -> Json:
    return await once(settings, "extend", connid=options.name, time=options.time, run=options.run)


async def status(options: argparse.Namespace, settings: Settings) -> Json:
    return await once(settings, "status", connid=options.name)


async def history(options: argparse.Namespace, settings: Settings) -> Json:
    return await once(
        settings, "history", connid=options.name, limit=options.limit, before=options.before
    )


async def once(settings: Settings, command: str, **fields: Any) -> Json:
    """Connect, give one command, and leave; its answer. Raises `Away` and `Refused`."""
    async with connected(settings) as line:
        return await line.call(command, room=settings.room, **fields)


def show(answer: Json) -> None:
    """Print an answer for people."""
    if answer["result"] == "status":
        table(
            ("NAME", "LEFT", "TIME", "STARTED BY", "PROGRESS", "NOTE"),
            map(running_row, answer["jobs"]),
        )
    elif answer["result"] == "history":
        rows = map(ended_row, answer["jobs"])
        table(("NAME", "END", "AT", "RAN", "STARTED BY", "MORE"), rows)
        if answer.get("before"):
            print(f"older ones: --before {answer['before']}")
    else:
        job = answer["job"]
        until = f", until {instant(job['deadline'])}" if answer["result"] == "extended" else ""
        print(f"{answer['result']}: {printable(job['connid'])} ({job['run']}){until}")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns as wide as they need to be."""
    lines = [tuple(head), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def running_row(job: Json) -> Sequence[str]:
    left, limit = time_left(job["remaining"]), duration(job["time"])
    return job["connid"], left, limit, job["by"], percent(job), job["note"] or ""


def ended_row(job: Json) -> Sequence[str]:
    ran = duration(job["ended_at"] - job["started_at"])
    return job["connid"], ending(job), instant(job["ended_at"]), ran, job["started_by"], facts(job)
