"""All processes below this one: which are alive, and how they are signalled and ended."""

import asyncio
import contextlib
import os
import pwd
import signal
import subprocess
import sys
from asyncio import Future
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hourglass.settings import clock

LOOKS = 0.02, 1.0
"""The least and the most seconds between two looks at what is alive."""
STUBBORN = 5.0
"""Seconds after SIGKILL from which what is still alive is spoken of."""


class Process(NamedTuple):
    """A process that has not ended."""

    parent: int
    group: int
    stopped: bool


class Tree:
    """All processes below this one, but for those that were there before.

    On Linux what loses its parent becomes our child (we are the *subreaper*), so that the tree is
    complete even when a part of it has left the session. Elsewhere what is no longer below us is
    found by its process group alone.
    """

    def __init__(self) -> None:
        self.complete = adopt_orphans()
        self.group: int | None = None
        """A process group that is ours alone; where the tree is not complete, what is in it
        belongs to it."""
        self.untouchable: dict[int, str] = {}
        """What we may not signal, described: it is another user's."""
        self.ended = asyncio.Event()
        """Set when a child of ours has ended, which saves looking for it."""
        us = os.getpid()
        self._not_ours = {pid for pid, process in processes().items() if process.parent == us}

    def exclude(self, pid: int) -> None:
        """Hold a child of ours for no part of the tree."""
        self._not_ours.add(pid)

    def reaped(self, pid: int) -> None:
        """A child of ours has ended, and been waited for."""
        self._not_ours.discard(pid)
        self.ended.set()

    def alive(self) -> dict[int, Process]:
        """Each process that has not ended."""
        found: dict[int, Process] = {}
        below = defaultdict(list)
        for pid, process in processes().items():
            below[process.parent].append((pid, process))
            if process.group == self.group and not self.complete:
                found[pid] = process
        pending = [item for item in below[os.getpid()] if item[0] not in self._not_ours]
        while pending:
            pid, process = pending.pop()
            found[pid] = process
            pending += below.pop(pid, [])
        return found

    def signal(self, signum: int, wanted: Callable[[Process], bool] | None = None) -> None:
        """Send a signal, once, to each or to those that are `wanted`.

        After SIGTERM what is stopped continues, so that it can end.
        """
        seen, newest = self.alive(), newest_pid()
        self._send(signum, seen, wanted)
        # What was forked while we looked has not had it. What is newer may be somebody's answer
        # to the signal, such as a clean-up, and is left to do its work.
        missed = self.alive()
        missed = {pid: missed[pid] for pid in missed.keys() - seen.keys() if pid <= newest}
        self._send(signum, missed, wanted)

    async def outlast(self, grace: float, say: Callable[[str], None], enough: Future[int]) -> bool:
        """Wait until none is left; what is after `grace` seconds is sent SIGKILL.

        False when all that is left may not be signalled by us, and `enough` is done.
        """
        kill_at = clock() + grace
        speak_at = kill_at + STUBBORN
        pause, before = LOOKS[0], set[int]()
        while (alive := self.alive()) or not self._childless():
            if clock() >= kill_at:
                self._send(signal.SIGKILL, alive)
            helpless = bool(alive) and self.untouchable.keys() >= alive.keys()
            if helpless and enough.done():
                return False
            if helpless or (alive and clock() >= speak_at):
                speak_at = float("inf")
                self._speak(alive, say)
            # Where nothing changes, look ever less often.
            pause = min(LOOKS[1], pause * 1.3) if alive.keys() == before else LOOKS[0]
            before = set(alive)
            left = kill_at - clock()
            await self._pause(min(pause, left) if left > 0 else pause, enough, helpless)
        return True

    def _childless(self) -> bool:
        """Whether nothing can be below us, not even what was forked while we looked.

        Whoever is below us has a parent there, or is our own child.
        """
        if self._not_ours or not self.complete:
            return True  # As far as we can see.
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return False

    async def _pause(self, seconds: float, enough: Future[int], helpless: bool) -> None:
        """Wait for so long, or until a child of ours ends, or there is `enough` of it."""
        self.ended.clear()
        ended = asyncio.create_task(self.ended.wait())
        waiting: set[Future[Any]] = {ended, enough} if helpless else {ended}
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()

    def _send(
        self,
        signum: int,
        processes: dict[int, Process],
        wanted: Callable[[Process], bool] | None = None,
    ) -> None:
        for pid, process in processes.items():
            if wanted is not None and not wanted(process):
                continue
            try:
                os.kill(pid, signum)
                if process.stopped and signum == signal.SIGTERM:
                    os.kill(pid, signal.SIGCONT)
                self.untouchable.pop(pid, None)
            except ProcessLookupError:
                pass
            except PermissionError:
                self.untouchable[pid] = describe(pid)

    def _speak(self, alive: Iterable[int], say: Callable[[str], None]) -> None:
        ours = [describe(pid) for pid in sorted(alive) if pid not in self.untouchable]
        if ours:
            say(f"cannot end {', '.join(ours)}; still trying")
        else:
            theirs = ", ".join(self.untouchable[pid] for pid in sorted(alive))
            say(f"{theirs} may not be ended by {user(os.geteuid())}, and goes on")


def send(how: Callable[[int, int], None], target: int, signum: int) -> None:
    """Send a signal to what may be gone, or not ours to signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(target, signum)


def adopt_orphans() -> bool:
    """Become the parent of what our descendants leave behind, where the system can do that."""
    return prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def prctl(option: int, value: int) -> bool:
    """What the C library's function of that name does; whether it could."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    return False


def processes() -> dict[int, Process]:
    """Every process that has not ended."""
    if not os.path.exists("/proc/self/stat"):
        return processes_by_ps()
    found: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            add_process(found, int(name))
    # What was read before its parent ended has another parent by now.
    for pid in [pid for pid, process in found.items() if process.parent not in found]:
        del found[pid]
        add_process(found, pid)
    return found


def add_process(found: dict[int, Process], pid: int) -> None:
    """Add a process, if it has not ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        # The name of the command, in parentheses, may hold anything.
        fields = file.read().rpartition(b")")[2].split()
        state, parent, group, threads = fields[0], fields[1], fields[2], fields[17]
        # One whose first thread has ended looks like a zombie while its others go on.
        if state not in (b"Z", b"X") or int(threads) > 1:
            found[pid] = Process(int(parent), int(group), state == b"T")


def processes_by_ps() -> dict[int, Process]:
    """The same where there is no /proc, as on macOS."""
    ps = subprocess.Popen(
        ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], stdout=subprocess.PIPE, text=True
    )
    found = {}
    for line in ps.communicate()[0].splitlines():
        pid, parent, group, state = line.split()
        # As above; "l" says that there are more threads.
        if int(pid) != ps.pid and (not state.startswith("Z") or "l" in state):
            found[int(pid)] = Process(int(parent), int(group), state.startswith("T"))
    return found


def newest_pid() -> int:
    """The id that was given to a process last; 0 where that is not known."""
    with contextlib.suppress(OSError), open("/proc/loadavg", "rb") as file:
        return int(file.read().split()[-1])
    return 0


def describe(pid: int) -> str:
    """A process as people know it, such as "sleep (process 12, of root)"."""
    name, owner = "a process", ""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/comm", "rb") as file:
            name = file.read().decode(errors="replace").strip()
        owner = f", of {user(os.stat(f'/proc/{pid}').st_uid)}"
    return f"{name} (process {pid}{owner})"


def user(uid: int) -> str:
    """The name of a user, as far as the machine knows it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
