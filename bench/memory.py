"""What a pending job costs in memory."""

from pathlib import Path

from bench.report import Table
from bench.servers import Server
from bench.wire import Load, Wire, connect_many

CLIENTS = 50

ABOUT = """What a server process has more resident than one without jobs, for each pending job.
"At most" is the same of its peak, which is where reading the file at start-up shows. What was
started through a WebSocket by {clients} clients was measured after they had left; in `:memory:`
what would be in the file counts too."""


async def measure(jobs: int, filled: Path, scratch: Path) -> Table:
    """One server for each way in which jobs can come into it."""
    table = Table(
        f"Memory of {jobs:,} pending jobs",
        ABOUT.format(clients=CLIENTS),
        ("jobs", "bytes a job", "at most", "whole server, MiB"),
    )
    empty, empty_peak = await _started(scratch / "empty.db", 0)
    ways = {
        "read from the file at start-up": await _started(filled, 0),
        "started, file": await _started(scratch / "started.db", jobs),
        "started, `:memory:`": await _started(":memory:", jobs),
    }
    table.rows.append(("none", "", "", f"{empty / 2**20:.1f}"))
    for name, (now, peak) in ways.items():
        each = (f"{(now - empty) / jobs:,.0f}", f"{(peak - empty_peak) / jobs:,.0f}")
        table.rows.append((name, *each, f"{now / 2**20:.1f}"))
    return table


async def _started(database: Path | str, jobs: int) -> tuple[int, int]:
    """The memory of a server after `jobs` were started in it, now and at the most."""
    async with Server(database) as server:
        if jobs:
            clients = await connect_many(Wire, server.port, CLIENTS)
            await Load(clients).run(lambda asked: asked < jobs)
            for client in clients:
                client.close()
        return server.memory("VmRSS"), server.memory("VmHWM")
