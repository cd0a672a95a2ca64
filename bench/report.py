"""Tables, what stands in their cells, and the machine that they were measured on."""

import os
import platform
import sqlite3
import statistics
import tempfile
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("aiohttp", "python-socketio", "python-engineio", "msgspec")


@dataclass
class Table:
    """One subject's results, with what has to be known to read them."""

    title: str
    about: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """The table as a section of a page, in columns that line up as plain text too."""
        lines = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = [_line(cells, widths) for cells in lines]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        body.insert(1, _line(rule, widths))
        about = textwrap.fill(" ".join(self.about.split()), 100)
        return "\n".join([f"## {self.title}", "", about, "", *body, ""])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return f"| {' | '.join([first, *rest])} |"


def spread(values: Iterable[float], digits: int = 0) -> str:
    """The median of several rounds, with the lowest and the highest."""
    values = list(values)
    median, low, high = statistics.median(values), min(values), max(values)
    if len(values) == 1:
        return f"{median:,.{digits}f}"
    return f"{median:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def counted(rounds: int) -> str:
    """So many rounds, in words."""
    return "1 round" if rounds == 1 else f"{rounds} rounds"


def medians(rounds: int) -> str:
    """What `spread` has made of so many rounds, in words."""
    if rounds == 1:
        return f"figures of {counted(rounds)}"
    return f"medians of {counted(rounds)} (lowest to highest)"


def machine() -> Table:
    """What the results were measured on."""
    rows: list[Sequence[str]] = [
        ("CPU", f"{_cpu()}, {os.cpu_count()} cores"),
        ("kernel", platform.release()),
        ("Python", f"{platform.python_version()} of {platform.python_build()[1]}"),
        ("100,000 objects made and asked", f"{_pace() * 1e3:.1f} ms"),
        ("SQLite", sqlite3.sqlite_version),
        *((name, version(name)) for name in LIBRARIES),
        ("4 KiB written and synced", f"{_sync() * 1e6:.0f} µs"),
        ("load average before", f"{os.getloadavg()[0]:.1f}"),
        ("date", time.strftime("%Y-%m-%d")),
    ]
    about = """Everything ran on this machine, the clients too, over loopback. How fast Python is
        differs by a third with how it was built: that of Debian, and that of its official images,
        were optimized by profiles; one that a version manager has compiled often was not."""
    return Table("The machine", about, ("what", "is"), rows)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _pace() -> float:
    """The time that Python itself takes for a bit of everyday work, in seconds."""

    class Pair:
        def __init__(self, first: int, second: int) -> None:
            self.first = first
            self.second = second

        def sum(self) -> int:
            return self.first + self.second

    def work() -> float:
        begun = time.process_time()
        for number in range(100_000):
            Pair(number, 1).sum()
        return time.process_time() - begun

    return min(work() for _ in range(7))


def _sync() -> float:
    """The median time that it takes until a small write to a file is durable, in seconds."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(300):
            begun = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    return statistics.median(times)
