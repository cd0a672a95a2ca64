"""`python -m bench`: measure everything, print the tables, write `docs/benchmarks.md`."""

import argparse
import asyncio
import re
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import (
    cluster,
    contest,
    dashboard,
    flood,
    holding,
    lateness,
    library,
    memory,
    servers,
    starts,
    startup,
    store,
)
from bench.report import Table, machine

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
INTRODUCTION = """# Benchmarks

What `make bench` has measured. Compare numbers of one run with each other: another machine, or
another hour on a shared one, has other numbers. The jobs are spread over {rooms} rooms and have a
short note each; the settings are the default ones, but for the caps on what runs and the rate
limit, which are lifted.
"""


def main() -> None:
    flags = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that no server is left behind.
    with tempfile.TemporaryDirectory(prefix="hourglass-bench-") as scratch:
        tables = asyncio.run(measure(flags, Path(scratch)))
    if flags.page is not None:
        old = flags.page.read_text() if set(flags.only) < set(SUBJECTS) else ""
        parts = [INTRODUCTION.format(rooms=servers.ROOMS), *sections(old, tables)]
        flags.page.write_text("\n".join(parts))
        print(f"written to {flags.page}", file=sys.stderr)


async def measure(flags: argparse.Namespace, scratch: Path) -> list[Table]:
    """The table of each subject that was asked for, each printed when it is there."""
    filled = scratch / "filled.db"
    tables = [machine()]
    print(tables[0].markdown(), flush=True)
    await servers.fill(filled, servers.pending(flags.jobs, time.time()))
    for name in flags.only:
        begun = time.perf_counter()
        found = await SUBJECTS[name](flags, filled, scratch)
        for table in found if isinstance(found, list) else [found]:
            tables.append(table)
            print(table.markdown(), flush=True)
        print(f"{name} took {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    return tables


def sections(old: str, tables: list[Table]) -> list[str]:
    """The sections of a page: what was measured now, in its place among what was not."""
    parts = re.split(r"^## ", old, flags=re.MULTILINE)[1:]
    every = {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}
    return list((every | {table.title: table.markdown() for table in tables}).values())


SUBJECTS: dict[str, Callable[[argparse.Namespace, Path, Path], Awaitable[Table | list[Table]]]] = {
    "memory": lambda flags, filled, scratch: memory.measure(flags.jobs, filled, scratch),
    "holding": lambda flags, _, scratch: holding.measure(scratch, flags.scale),
    "startup": lambda flags, filled, scratch: startup.measure(
        flags.jobs, flags.rounds, filled, scratch
    ),
    "lateness": lambda flags, filled, scratch: lateness.measure(
        flags.jobs, flags.rate, flags.seconds, flags.late_rounds, filled, scratch
    ),
    "starts": lambda flags, _, scratch: starts.measure(flags.rounds, 1, scratch),
    "store": lambda flags, _, scratch: store.measure(flags.rounds, 1, scratch),
    "library": lambda flags, _, scratch: library.measure(flags.rounds, scratch),
    "flood": lambda _, __, scratch: flood.measure(scratch),
    "dashboard": lambda _, __, scratch: dashboard.measure(scratch),
    "cluster": lambda flags, _, scratch: cluster.measure(flags.peer_rounds, scratch),
    "peers": lambda flags, _, scratch: contest.measure(flags.peer_rounds, scratch),
}
"""What can be measured, given a file with the pending jobs and a directory for more."""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    result.add_argument("--jobs", type=int, default=100_000, help="pending jobs")
    result.add_argument("--rate", type=int, default=1000, help="ends a second")
    result.add_argument("--seconds", type=int, default=10, help="how long jobs come due")
    result.add_argument("--rounds", type=int, default=5, help="rounds of most subjects")
    result.add_argument("--late-rounds", type=int, default=3, help="rounds of the lateness")
    result.add_argument("--peer-rounds", type=int, default=3, help="rounds beside the peers")
    result.add_argument(
        "--scale", type=float, default=1.0, help="what `holding` makes smaller, such as 0.1"
    )
    result.add_argument(
        "--only",
        nargs="+",
        choices=SUBJECTS,
        default=list(SUBJECTS),
        metavar="SUBJECT",
        help=f"measure only some of: {', '.join(SUBJECTS)}",
    )
    result.add_argument("--page", type=Path, default=PAGE, help="the file to write")
    result.add_argument(
        "--no-page", dest="page", action="store_const", const=None, help="write no file"
    )
    return result


if __name__ == "__main__":
    main()
