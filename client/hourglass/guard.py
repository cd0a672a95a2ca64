"""The process that the user knows, and the one that does its work: each ends what the other left.

Nobody cleans up after a SIGKILL of their own. When the worker is killed, its guard ends what it has
left behind. When the guard is, the worker goes on as after a SIGTERM.
"""

import asyncio
import contextlib
import json
import mmap
import os
import signal
import sys
import time
from asyncio import Future
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hourglass.signals import ALONE, ENDING, GROUP, PASSED, settle
from hourglass.terminal import Terminal
from hourglass.tree import Tree, prctl, processes

SOON = 0.03
"""Seconds for whoever sends a signal to all of us, one after the other."""
Facts = dict[str, Any]


class Will:
    """What a process leaves for another to know, also when it is killed as it writes."""

    SIZE = 16_384

    def __init__(self) -> None:
        self._facts: Facts = {}
        # The first byte says which of two places is whole.
        self._memory = mmap.mmap(-1, 1 + 2 * self.SIZE)

    def write(self, **facts: Any) -> None:
        """Add facts, or change them: a few thousand bytes of JSON in all."""
        self._facts |= facts
        place = 1 - self._memory[0]
        start = 1 + place * self.SIZE
        self._memory[start : start + self.SIZE] = json.dumps(self._facts).encode().ljust(self.SIZE)
        self._memory[0] = place

    def read(self) -> Facts:
        start = 1 + self._memory[0] * self.SIZE
        found: Facts = json.loads(self._memory[start : start + self.SIZE].rstrip(b"\0") or "{}")
        return found


@dataclass(frozen=True)
class Link:
    """What a worker has of its guard."""

    guard: int
    """Its process id."""
    group: int | None
    """The process group that the command belongs in; None for a session of its own."""
    signals: int
    """To be read: two bytes for each signal that the guard was sent, with its scope; it ends with
    the guard."""
    mask: set[int]
    """The signals that were blocked before us."""
    inherited: list[int]
    """Descriptors that we were given for the command."""
    terminal: Terminal | None
    """What the command is on, where it is not on ours."""
    tell: Callable[..., None]
    """Leaves facts for the guard: the `group` to be ended, the `run` of the job or the `key` of its
    request, the `exit` of the command, the signal that it `died` of, so that the guard does too,
    and a result that the server could not be told (`untold`)."""

    def listen(self) -> None:
        """Take signals as the command does; but write on the terminal also in the background."""
        signal.pthread_sigmask(signal.SIG_SETMASK, {*self.mask, signal.SIGTTOU})

    def is_guarded(self) -> bool:
        """Whether our guard is there."""
        return os.getppid() == self.guard

    def wake_guard(self) -> None:
        """Have a guard that is stopped, as by Ctrl-Z, go on to its end."""
        guard = processes().get(self.guard)
        if guard is not None and guard.stopped:
            os.kill(self.guard, signal.SIGCONT)

    @contextlib.contextmanager
    def original_mask(self) -> Iterator[None]:
        """Block what was blocked before us, for a process that is started meanwhile."""
        ours = signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, ours)

    def let_go(self) -> None:
        """Close what is the command's, so that whoever waits for its end does not wait for us."""
        let_go(self.inherited)


class Witness:
    """A process of our group that does nothing: what is sent to it was sent to the whole group.

    So a signal for us alone is told from one that the command has had as well.
    """

    def __init__(self, tree: Tree) -> None:
        """What we pass on is blocked, and stays pending in the witness."""
        ours = os.getpid()
        reading, self._writing = os.pipe()  # It ends with us.
        self.pid = os.fork()
        if self.pid == 0:
            prctl(
                1, signal.SIGKILL
            )  # PR_SET_PDEATHSIG, as a process that is stopped reads nothing.
            let_go(fd for fd in descriptors() if fd != reading)
            if os.getppid() == ours:
                os.read(reading, 1)
            os._exit(0)
        os.close(reading)
        tree.exclude(self.pid)

    def saw(self, signum: int) -> bool:
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"ShdPnd:"):
                    return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
        return False

    def disown(self) -> None:
        """Leave it to its parent."""
        os.close(self._writing)

    def close(self) -> None:
        self.disown()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Guard:
    """Waits for its worker, and hands on what it is sent meanwhile."""

    def __init__(
        self, terminal: Terminal | None = None, *, keeps_descriptors: bool = False
    ) -> None:
        """Who needs them itself `keeps_descriptors`, which then close with the command and us."""
        self._terminal = terminal
        self._keeps_descriptors = keeps_descriptors
        # What was ignored before, as SIGHUP is under nohup, stays so for the command too.
        self._passed = {it for it in PASSED if signal.getsignal(it) is not signal.SIG_IGN}
        if terminal is not None:
            self._passed.discard(signal.SIGWINCH)  # It hears of that itself.
        self._watched = {*self._passed, signal.SIGCHLD}
        signal.signal(
            signal.SIGCHLD, signal.SIG_DFL
        )  # Where it is ignored no child can be waited for.
        self.mask: set[int] = signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)
        self.inherited = [fd for fd in descriptors() if fd > 2 and inheritable(fd)]
        self.tree = Tree()
        self.will = Will()
        # Otherwise the command has a session of its own, where only we send it anything.
        shared = self.tree.complete and terminal is None
        self._witness = Witness(self.tree) if shared else None
        self._reading, self._writing = os.pipe()
        self._worker = 0

    def start(self, work: Callable[[Link], int]) -> None:
        """Start the worker. It leaves our process group, as all of that may be killed at once."""
        guard, group = os.getpid(), os.getpgrp() if self._witness else None
        self._worker = os.fork()
        if self._worker == 0:
            os.close(self._writing)
            if self._witness is not None:
                self._witness.disown()
            os.setpgid(0, 0) if group else os.setsid()
            os._exit(
                work(
                    Link(
                        guard,
                        group,
                        self._reading,
                        self.mask,
                        self.inherited,
                        self._terminal,
                        self.will.write,
                    )
                )
            )
        os.close(self._reading)
        if not self._keeps_descriptors:
            let_go([*self.inherited, 0, 1])

    def wait(self) -> int:
        """Hand on signals until the worker ends; its exit code, or below 0 its signal."""
        while True:
            signum, alone = self._next_signal()
            if signum == signal.SIGCHLD:
                if (status := self._reap()) is not None:
                    return os.waitstatus_to_exitcode(status)
                continue
            shared = self._witness is not None
            scope = GROUP if shared and (not alone or self._group_had(signum)) else ALONE
            with contextlib.suppress(BrokenPipeError):
                os.write(self._writing, bytes([signum, scope]))
            if signum == signal.SIGTSTP:
                self._stop()

    def close(self) -> None:
        """Be without a worker and a witness."""
        former, self._witness = self._witness, None
        if former is not None:
            former.close()
            os.waitpid(former.pid, 0)
            self.tree.reaped(former.pid)
        self._reap()

    def restore_mask(self) -> None:
        """Block what was blocked before us, and nothing else."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def listen(self) -> Future[int]:
        """Wait for what a worker has left behind, in an event loop; done when we are to end."""
        loop = asyncio.get_running_loop()
        found: Future[int] = loop.create_future()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        heard = self._passed & {*ENDING}
        for signum in heard:
            loop.add_signal_handler(signum, settle, found, signum)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD, *heard})
        return found

    def leave(self, work: Callable[[], None]) -> None:
        """Have a process of its own do some work that nobody waits for."""
        if os.fork() == 0:
            os.setsid()
            let_go([0, 1, 2, self._writing])
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
            try:
                work()
            finally:
                os._exit(0)

    def _next_signal(self) -> tuple[int, bool]:
        """A signal, and whether it may be for us alone: the kernel sends it to the group."""
        if sys.platform == "linux":
            info = signal.sigwaitinfo(self._watched)
            return info.si_signo, info.si_code <= 0
        return signal.sigwait(self._watched), True

    def _group_had(self, signum: int) -> bool:
        if self._witness is None:
            return False
        if not self._witness.saw(signum):
            time.sleep(SOON)
            if not self._witness.saw(signum):
                return False
        # What waits there would look as if it was sent again.
        former, self._witness = self._witness, Witness(self.tree)
        former.close()
        return True

    def _stop(self) -> None:
        """Stop like the command, and as a shell expects of a job; the worker keeps the time."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])

    def _reap(self) -> int | None:
        """Wait for all children that have ended, also those of others; the status of the worker."""
        found = None
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                self.tree.reaped(pid)
                if pid == self._worker:
                    found = status
                elif self._witness is not None and pid == self._witness.pid:
                    self._witness.disown()
                    self._witness = Witness(self.tree)
        return found


def die(signum: int) -> int:
    """Die of a signal, as the command did; the exit code where we cannot, as process 1."""
    prctl(4, 0)  # PR_SET_DUMPABLE: the core is the command's.
    with contextlib.suppress(OSError, ValueError):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signum])
    os.kill(os.getpid(), signum)
    return 128 + signum


def descriptors() -> list[int]:
    """All that are open."""
    folder = "/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"
    return [int(name) for name in os.listdir(folder)]


def inheritable(fd: int) -> bool:
    """Whether a program that is run gets it."""
    try:
        return os.get_inheritable(fd)
    except OSError:  # It served to list the others, and is closed.
        return False


def let_go(fds: Iterable[int]) -> None:
    """Close descriptors; in place of the first three nothing is read and nowhere written."""
    for fd in list(fds):
        with contextlib.suppress(OSError):
            if fd > 2:
                os.close(fd)
            else:
                nothing = os.open(os.devnull, os.O_RDWR)
                os.dup2(nothing, fd)
                os.close(nothing)
