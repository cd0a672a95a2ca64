"""How many commands a second the store makes durable by itself."""

import asyncio
import time
from collections import defaultdict
from pathlib import Path

from bench.report import Table, medians, spread
from bench.servers import job, uncapped
from server.store.embedded.store import EmbeddedStore
from server.store.interface import Listener, StartJob

IN_FLIGHT = (1, 10, 100, 1000)

ABOUT = """Jobs started in the embedded store, on a file, with no server around it: so many callers
each wait until their job is durable before they start the next, for {seconds} s; {medians}. CPU is
in seconds for each thousand commands; making the jobs is in it."""


async def measure(rounds: int, seconds: float, scratch: Path) -> Table:
    """Every number of callers in each round, on a new file each."""
    rates, cpus = defaultdict(list), defaultdict(list)
    for number in range(rounds):
        for callers in IN_FLIGHT:
            path = scratch / f"store-{number}-{callers}.db"
            rate, cpu = await _rate(path, callers, seconds)
            rates[callers].append(rate)
            cpus[callers].append(cpu)
    table = Table(
        "The store alone",
        ABOUT.format(medians=medians(rounds), seconds=seconds),
        ("in flight", "commands/s", "CPU"),
    )
    for callers in IN_FLIGHT:
        row = (f"{callers:,}", spread(rates[callers]), spread(cpus[callers], 3))
        table.rows.append(row)
    return table


async def _rate(path: Path, callers: int, seconds: float) -> tuple[float, float]:
    """Commands a second, and the CPU seconds for each thousand."""
    store = EmbeddedStore(uncapped(path))
    await store.open(Listener())
    running = asyncio.create_task(store.run())
    begun, cpu, done = time.perf_counter(), time.process_time(), 0

    async def call() -> None:
        nonlocal done
        while time.perf_counter() - begun < seconds:
            done += 1
            now = time.time()
            await store.submit(StartJob(job(done, "main", now, now + 3600)))

    await asyncio.gather(*(call() for _ in range(callers)))
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    await store.close()
    running.cancel()
    return done / took, cpu / done * 1000
