"""The command: a process in our place, with what it inherits, prints and leaves behind."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hourglass.guard import Link
from hourglass.output import Pump
from hourglass.signals import ALONE, GROUP
from hourglass.terminal import Terminal
from hourglass.tree import Tree

TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP, signal.SIGCONT}
"""What a terminal or a shell sends to a whole process group."""


class Command:
    """A process, and all that it starts.

    It is where it would be without us: in our session, in our process group, with the descriptors
    that we were given. Where its tree cannot be known in full, it is in a session of its own.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._tree = Tree()
        self._pumps: list[Pump] = []
        self._stop_reading, self._stop_writing = os.pipe()
        self.exited: Future[int] = self._loop.create_future()
        """The exit code, or the number of the signal that ended it, below 0."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def start(self, argv: Sequence[str], channel: Callable[[], Callable[[str], None]]) -> None:
        """Start it, on a terminal or on pipes, its output passed on and fed to a channel for each.
        Raises `OSError`."""
        argv = with_own_pid(argv, os.environ, self._link.guard)
        # Without that Python's lines come at its end.
        environ = {"PYTHONUNBUFFERED": "1", **os.environ}
        if self._link.terminal is None:
            self._start_on_pipes(argv, environ, channel)
        else:
            self._start_on_terminal(argv, environ, channel(), self._link.terminal)

    def _start_on_pipes(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        channel: Callable[[], Callable[[str], None]],
    ) -> None:
        outputs = {1: os.pipe()}
        # One pipe for both, where both go to the same place: that keeps their order.
        outputs[2] = outputs[1] if os.path.sameopenfile(1, 2) else os.pipe()
        try:
            self._begin(
                args=argv,
                env=environ,
                stdout=outputs[1][1],
                stderr=outputs[2][1],
                start_new_session=self._link.group is None,
                process_group=self._link.group,
            )
        finally:
            for _, writing in set(outputs.values()):
                os.close(writing)
        for reading, target in {reading: fd for fd, (reading, _) in outputs.items()}.items():
            self._pass_on(reading, target, channel())

    def _start_on_terminal(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        feed: Callable[[str], None],
        terminal: Terminal,
    ) -> None:
        self._begin(**terminal.options(argv, environ))
        terminal.started()
        self._pass_on(terminal.master, 1, terminal.answering(feed))

    def _begin(self, **options: Any) -> None:
        with self._link.original_mask():
            # Our descriptors are not inheritable; those that we were given are.
            self._process = subprocess.Popen(close_fds=False, **options)
        self._link.let_go()
        self._tree.group = None if self._link.group else self._process.pid
        self._link.tell(group=self._tree.group)

    def _pass_on(self, reading: int, target: int, feed: Callable[[str], None]) -> None:
        pump = Pump(reading, target, feed, self._stop_reading)
        pump.start()
        self._pumps.append(pump)

    def signal(self, signum: int, scope: int = ALONE) -> bool:
        """Pass on a signal, to those who have not had it themselves; whether it has not exited.

        SIGTERM is for the whole tree, what a terminal sends for the process group, and any other
        for the command alone.
        """
        if self._process is None or self.exited.done():
            return not self.exited.done()
        group = self._link.group or self._process.pid
        if signum == signal.SIGTERM:
            if scope == ALONE:
                self._tree.signal(signum)
            elif scope == GROUP:
                self._tree.signal(signum, lambda process: process.group != group)
        elif scope == ALONE:
            if signum in TERMINAL:
                self._tree.signal(signum, lambda process: process.group == group)
            else:
                os.kill(self._process.pid, signum)
        return True

    def signal_rest(self) -> None:
        """Send SIGTERM to what a command that has exited has left running."""
        self._tree.signal(signal.SIGTERM)

    async def end(self, grace: float, say: Callable[[str], None], enough: Future[int]) -> bool:
        """Wait until it is gone with all that it has started, as `Tree.outlast` does."""
        gone = await self._tree.outlast(grace, say, enough)
        if gone:
            await self.exited
        return gone

    async def drained(self, within: float | None = None) -> None:
        """Wait until the output of a command that has exited is passed on, or some seconds."""
        if self._stop_writing >= 0:
            os.close(self._stop_writing)
            self._stop_writing = -1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                for pump in self._pumps:
                    await pump.done.wait()

    def leave(self) -> None:
        """Have what the command has left running print on, as it would without us."""
        for pump in self._pumps:
            pump.hand_over()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._tree.reaped(pid)
                if self._process is not None and pid == self._process.pid:
                    self._process.returncode = os.waitstatus_to_exitcode(status)
                    self.exited.set_result(self._process.returncode)


def with_own_pid(argv: Sequence[str], environ: Mapping[str, str], guard: int) -> Sequence[str]:
    """The command, told its own process id where its supervisor has told us ours.

    What systemd passes on, listening sockets and the watchdog, is only for the process that is
    named in the environment.
    """
    ours = [name for name in ("LISTEN_PID", "WATCHDOG_PID") if environ.get(name) == str(guard)]
    if not ours or shutil.which(argv[0]) is None:
        return argv
    told = " ".join(f"{name}=$$" for name in ours)
    return ["sh", "-c", f'export {told}; exec "$@"', "sh", *argv]
