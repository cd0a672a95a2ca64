"""A process with everything that it starts, and how all of it is ended."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from asyncio import Future
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from hourglass.output import Pump
from hourglass.settings import clock
from hourglass.terminal import Terminal


class Tree:
    """All processes below this one, but for those that were there before.

    On Linux what loses its parent becomes our child (we are the *subreaper*), so that the tree is
    complete even when a part of it has left the session. Elsewhere what is no longer below us is
    found by its process group alone.
    """

    def __init__(self) -> None:
        self.group: int | None = None
        """The process group in which most of it is."""
        self._not_ours = {pid for pid, (parent, _) in processes().items() if parent == os.getpid()}
        self._complete = adopt_orphans()

    def alive(self) -> dict[int, int]:
        """Each process that has not ended, with its process group."""
        found, below = {}, defaultdict(list)
        for pid, (parent, group) in processes().items():
            below[parent].append((pid, group))
            if group == self.group and not self._complete:
                found[pid] = group
        pending = [item for item in below[os.getpid()] if item[0] not in self._not_ours]
        while pending:
            pid, group = pending.pop()
            found[pid] = group
            pending += below.pop(pid, [])
        return found

    async def end(self, grace: float, say: Callable[[str], None]) -> None:
        """SIGTERM for all, after `grace` seconds SIGKILL; returns when none is left."""
        self._signal(signal.SIGTERM, signal.SIGCONT)
        patience = clock() + grace
        while self.alive() and clock() < patience:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        patience = clock() + 5
        while alive := self.alive():
            self._signal(signal.SIGKILL)
            if clock() > patience:
                patience = float("inf")
                say(f"cannot end {', '.join(map(str, sorted(alive)))}; still trying")
            await asyncio.sleep(0.02)

    def _signal(self, *signums: int) -> None:
        alive = self.alive()
        for signum in signums:
            # The group is signalled at once, and cannot grow meanwhile.
            if self.group is not None and self.group in alive.values():
                send(os.killpg, self.group, signum)
            for pid in alive:
                send(os.kill, pid, signum)


def send(how: Callable[[int, int], None], target: int, signum: int) -> None:
    """Send a signal to what may be gone, or not ours to signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(target, signum)


class Command:
    """A process in a session of its own, and all that it starts."""

    def __init__(self, say: Callable[[str], None], group: int) -> None:
        """To `group` the process group is written, for whoever has to end it in our place."""
        self._say = say
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._tree = Tree()
        self._pumps: list[Pump] = []
        self._stop_reading, self._stop_writing = os.pipe()
        self.exited: Future[int] = self._loop.create_future()
        """The exit code, as shells have it: 128 and the number of the signal that ended it."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def start(
        self,
        argv: Sequence[str],
        channel: Callable[[], Callable[[str], None]],
        terminal: Terminal | None,
    ) -> None:
        """Start it, on a terminal or on pipes, its output passed on and fed to a channel for each.
        Raises `OSError`."""
        # Without that Python's lines come at its end.
        environ = {"PYTHONUNBUFFERED": "1", **os.environ}
        if terminal is None:
            self._start_on_pipes(argv, environ, channel)
        else:
            self._start_on_terminal(argv, environ, channel(), terminal)

    def _start_on_pipes(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        channel: Callable[[], Callable[[str], None]],
    ) -> None:
        outputs = {1: os.pipe()}
        # One pipe for both, where both go to the same place: that keeps their order.
        outputs[2] = outputs[1] if same_file(1, 2) else os.pipe()
        try:
            process = subprocess.Popen(
                argv,
                stdout=outputs[1][1],
                stderr=outputs[2][1],
                start_new_session=True,
                env=environ,
            )
        finally:
            for _, writing in set(outputs.values()):
                os.close(writing)
        self._began(process)
        for reading, target in {reading: fd for fd, (reading, _) in outputs.items()}.items():
            self._pass_on(reading, target, channel())

    def _start_on_terminal(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        feed: Callable[[str], None],
        terminal: Terminal,
    ) -> None:
        process = subprocess.Popen(**terminal.options(argv, environ))
        terminal.started()
        self._began(process)
        self._pass_on(terminal.master, 1, terminal.answering(feed))

    def _began(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._tree.group = process.pid
        with contextlib.suppress(BrokenPipeError):  # Nobody guards us: that is heard elsewhere.
            os.write(self._group, str(process.pid).encode())

    def _pass_on(self, reading: int, target: int, feed: Callable[[str], None]) -> None:
        pump = Pump(reading, target, feed, self._stop_reading)
        pump.start()
        self._pumps.append(pump)

    def signal(self, signum: int) -> None:
        """Pass a signal on to the process group, as a terminal would."""
        if self._process is not None and not self.exited.done():
            send(os.killpg, self._process.pid, signum)

    async def end(self, grace: float) -> None:
        """End it with all that it has started; returns when that is gone."""
        await self._tree.end(grace, self._say)
        await self.exited

    async def drained(self, within: float | None = None) -> None:
        """Wait until the output of a command that has exited is passed on, or some seconds.

        What it has left running may hold the pipes open; that is not waited for.
        """
        if self._stop_writing >= 0:
            os.close(self._stop_writing)
            self._stop_writing = -1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                for pump in self._pumps:
                    await pump.done.wait()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self._process is not None and pid == self._process.pid:
                    code = os.waitstatus_to_exitcode(status)
                    self._process.returncode = code
                    self.exited.set_result(code if code >= 0 else 128 - code)


def adopt_orphans() -> bool:
    """Become the parent of what our descendants leave behind, where the system can do that."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            return bool(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)  # PR_SET_CHILD_SUBREAPER
    return False


def processes() -> dict[int, tuple[int, int]]:
    """The parent and the process group of every process that has not ended."""
    if not os.path.exists("/proc/self/stat"):
        return processes_by_ps()
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The name of the command, in parentheses, may hold anything.
                state, parent, group = file.read().rpartition(b")")[2].split()[:3]
                if state not in (b"Z", b"X"):
                    found[int(name)] = int(parent), int(group)
    return found


def processes_by_ps() -> dict[int, tuple[int, int]]:
    """The same where there is no /proc, as on macOS."""
    ps = subprocess.Popen(
        ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], stdout=subprocess.PIPE, text=True
    )
    lines = ps.communicate()[0].splitlines()
    rows = [line.split() for line in lines]
    alive = [row for row in rows if not row[3].startswith("Z") and row[0] != str(ps.pid)]
    return {int(pid): (int(parent), int(group)) for pid, parent, group, *_ in alive}


def same_file(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same place."""
    return os.path.sameopenfile(one, other)
