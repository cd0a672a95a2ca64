"""How long a server takes until it listens."""

import time
from collections import defaultdict
from pathlib import Path

from bench.report import Table, medians, spread
from bench.servers import Server

ABOUT = """From the start of the process until it says that it listens, with the file in the page
cache: {medians}, the two files in turns."""


async def measure(jobs: int, rounds: int, filled: Path, scratch: Path) -> Table:
    """Start servers on an empty and on a filled file, in turns."""
    files = {"empty": scratch / "empty.db", f"{jobs:,} pending jobs": filled}
    walls, cpus = defaultdict(list), defaultdict(list)
    for _ in range(rounds):
        for name, path in files.items():
            wall, cpu = await _start(path)
            walls[name].append(wall * 1000)
            cpus[name].append(cpu * 1000)
    table = Table(
        "Start-up", ABOUT.format(medians=medians(rounds)), ("file", "listens after, ms", "CPU, ms")
    )
    table.rows += [(name, spread(walls[name]), spread(cpus[name])) for name in files]
    return table


async def _start(database: Path) -> tuple[float, float]:
    """Seconds until a server listens, by the clock and of CPU."""
    begun = time.perf_counter()
    async with Server(database) as server:
        return time.perf_counter() - begun, server.cpu()
