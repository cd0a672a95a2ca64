"""The server process that is measured, what it has used so far, and files of jobs for it."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from server.config import Config
from server.contract.messages import Job
from server.jobs import new_run
from server.store.embedded.store import EmbeddedStore
from server.store.interface import Listener, StartJob
from tests.support.servers import Process

ROOMS = 10
"""Rooms that pending jobs are spread over."""
DAY = 86_400


class Server(Process):
    """A server process without caps on what runs, and with every other setting as it comes."""

    forks = False

    def __init__(self, database: Path | str, **environ: str) -> None:
        caps = {"MAX_RUNNING": "0", "MAX_RUNNING_ROOM": "0"}
        super().__init__(Path(database), **caps, **environ)

    def memory(self, name: str = "VmRSS") -> int:
        """Bytes of memory: `VmRSS` now, `VmHWM` at the most."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"/proc says nothing of {name}")

    def cpu(self) -> float:
        """CPU seconds so far, of all threads."""
        # What clock_getcpuclockid(3) returns; Python does not have it.
        return time.clock_gettime((~self.pid << 3) | 2)

    def waited(self) -> float:
        """Seconds that its threads were ready to run and had no core: the noise of the machine."""
        files = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(file.read_text().split()[1]) for file in files) / 1e9


def pending(number: int, now: float) -> Iterator[Job]:
    """Jobs that come due a day after `now` and later, in a few rooms."""
    for index in range(number):
        yield job(index, f"room-{index % ROOMS}", now, now + DAY + index / 100)


def job(index: int, room: str, now: float, deadline: float) -> Job:
    """A job as a client would start it."""
    return Job(
        connid=f"job-{index:07}",
        run=new_run(now),
        room=room,
        time=deadline - now,
        started_at=now,
        deadline=deadline,
        by="bench",
        note=f"shard {index:07}",
    )


def uncapped(database: Path | str) -> Config:
    """The default settings, without caps on what runs."""
    return Config(database=str(database), max_running=0, max_running_room=0)


async def fill(database: Path, jobs: Iterable[Job]) -> None:
    """Start jobs in a file, with many in flight."""
    store = EmbeddedStore(uncapped(database))
    await store.open(Listener())
    running = asyncio.create_task(store.run())
    jobs = iter(jobs)
    while crowd := list(islice(jobs, 5000)):
        for completion in [store.submit(StartJob(job)) for job in crowd]:
            await completion
    await store.close()
    running.cancel()
