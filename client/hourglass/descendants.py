"""The processes that a job has started, seen from beside its program; on Linux alone."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from hourglass.native import clock
from hourglass.tree import processes, send

TICKS = os.sysconf("SC_CLK_TCK")
NOT_ITS = (
    b"multiprocessing.resource_tracker",
    b"multiprocessing.forkserver",
    b"hourglass.lease_keeper",
)
"""What is started beside the work, for as long as a program lives."""


class Descendants:
    """All processes below a program that were started while a job ran there.

    Of several jobs at once, those that the job's thread has started: nothing else tells whose they
    are. Once found they stay known, also without their parent.
    """

    def __init__(self, program: int, thread: int | None, began: float) -> None:
        """`thread` is the system's number of the only one to look at; `began` is by `clock`."""
        self._program = program
        self._thread = thread
        self._began = began
        self._known: dict[int, float] = {}
        """When each was started: a number alone may become another process's."""

    def alive(self) -> list[int]:
        """Those that have not ended."""
        parents = {pid: process.parent for pid, process in processes().items()}
        self._known = {
            pid: began
            for pid, began in self._known.items()
            if pid in parents and started_at(pid) == began
        }
        below: dict[int, list[int]] = {}
        for pid, parent in parents.items():
            below.setdefault(parent, []).append(pid)
        pending = [*self._roots(), *(pid for known in self._known for pid in below.get(known, []))]
        while pending:
            pid = pending.pop()
            began = started_at(pid) if pid in parents and pid not in self._known else None
            if began is not None and began >= self._began - 1 / TICKS and not is_not_its(pid):
                self._known[pid] = began
                pending += below.get(pid, [])
        return list(self._known)

    async def end(self, grace: float) -> None:
        """SIGTERM for all, after `grace` seconds SIGKILL; returns when none is left."""
        told: set[int] = set()
        patience = clock() + grace
        while alive := self.alive():
            late = clock() > patience
            for pid in alive:
                if late or pid not in told:
                    send(os.kill, pid, signal.SIGKILL if late else signal.SIGTERM)
                    told.add(pid)
            await asyncio.sleep(0.02)

    def _roots(self) -> list[int]:
        """Children of the program, or of its thread, apart from ourselves."""
        found = []
        for folder in Path(f"/proc/{self._program}/task").glob(f"{self._thread or '*'}"):
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in (folder / "children").read_text().split()]
        return [pid for pid in found if pid != os.getpid()]


def started_at(pid: int) -> float | None:
    """When a process was started, by `clock`; None of one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19]) / TICKS
    except OSError:
        return None


def is_not_its(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return any(name in Path(f"/proc/{pid}/cmdline").read_bytes() for name in NOT_ITS)
    return False
