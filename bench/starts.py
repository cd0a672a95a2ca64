"""How many jobs a second clients can start, each answered once it is durable."""

import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from bench.report import Table, medians, spread
from bench.servers import Server
from bench.wire import DOORS, Load, connect_many

CROWDS = (1, 50)

ABOUT = """Each client starts a job, waits for the answer and starts the next, for {seconds} s; the
clients are in no room. File and `:memory:` are measured one right after the other, with a server
process each; the ratio is of such a pair. In the table are {medians}. CPU is in seconds for each
thousand commands: what the server used, and what the clients did, which run in one process on the
other core."""


class Rate(NamedTuple):
    """What one run has come to."""

    jobs: float
    """Started in a second."""
    server: float
    """CPU seconds of the server for each thousand."""
    clients: float
    """CPU seconds of the clients for each thousand."""


async def measure(rounds: int, seconds: float, scratch: Path) -> Table:
    """All doors and crowds, on a file and in memory, in each round."""
    found: dict[tuple[str, int, str], list[Rate]] = defaultdict(list)
    for number in range(rounds):
        path = scratch / f"starts-{number}.db"
        async with Server(path) as on_file, Server(":memory:") as in_memory:
            for door in DOORS:
                for crowd in CROWDS:
                    found[door, crowd, "file"].append(await _rate(on_file, door, crowd, seconds))
                    found[door, crowd, "memory"].append(
                        await _rate(in_memory, door, crowd, seconds)
                    )
    head = ("door, clients", "file, jobs/s", "`:memory:`, jobs/s", "ratio", "server CPU", "clients")
    table = Table(
        "Start to durable answer", ABOUT.format(medians=medians(rounds), seconds=seconds), head
    )
    for door in DOORS:
        for crowd in CROWDS:
            name = f"{door}, {crowd}"
            table.rows.append(_row(name, found[door, crowd, "file"], found[door, crowd, "memory"]))
    return table


def _row(name: str, on_file: list[Rate], in_memory: list[Rate]) -> tuple[str, ...]:
    pairs = zip(on_file, in_memory, strict=True)
    return (
        name,
        spread(rate.jobs for rate in on_file),
        spread(rate.jobs for rate in in_memory),
        spread((one.jobs / other.jobs for one, other in pairs), 2),
        spread((rate.server for rate in on_file), 3),
        f"{statistics.median(rate.clients for rate in on_file):.3f}",
    )


async def _rate(server: Server, door: str, crowd: int, seconds: float) -> Rate:
    """Start jobs through `door` for some seconds."""
    clients = await connect_many(DOORS[door], server.port, crowd)
    load = Load(clients)
    await load.run(lambda asked: asked < 2 * crowd)
    begun, server_cpu, own_cpu = time.perf_counter(), server.cpu(), time.process_time()
    started = await load.run(lambda asked: time.perf_counter() - begun < seconds)
    took = time.perf_counter() - begun
    server_cpu, own_cpu = server.cpu() - server_cpu, time.process_time() - own_cpu
    for client in clients:
        client.close()
    thousands = started / 1000
    return Rate(started / took, server_cpu / thousands, own_cpu / thousands)
