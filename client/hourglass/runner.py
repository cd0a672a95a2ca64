"""`hourglass run`: joins a command and a job, in a process that another one guards."""

import argparse
import asyncio
import contextlib
import os
import queue
import signal
import sys
import threading
import traceback
from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hourglass.errors import Exit, Refused
from hourglass.formatting import duration, killing, printable
from hourglass.naming import name_of
from hourglass.output import Output
from hourglass.owner import Owner, Plan
from hourglass.process import Command, Tree, send
from hourglass.progress.reading import reading_of
from hourglass.settings import Settings, clock
from hourglass.terminal import Terminal, typed_for

DRAIN = 2.0
"""Seconds for output that nobody takes before the end of the command is reported."""


class Notices:
    """Says things on stderr, from a thread: whoever reads that may not do so."""

    def __init__(self, quiet: bool, terminal: Terminal | None) -> None:
        self._quiet = quiet
        self._end = "\n" if terminal is None else "\r\n"  # It may be raw meanwhile.
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        if not self._quiet:
            self._queue.put(f"hourglass: {printable(text)}{self._end}")

    def close(self) -> None:
        """Wait a moment for what is still to be said."""
        self._queue.put(None)
        self._thread.join(1)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (text := self._queue.get()) is not None:
                os.write(2, text.encode(errors="replace"))


class Signals:
    """Passes the signals that we get on to the command."""

    PASSED = (
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGHUP,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    )

    def __init__(self, command: Command, guard: int) -> None:
        """`guard` is readable when the process that guards us is gone: that is like SIGTERM."""
        self._command = command
        loop = asyncio.get_running_loop()
        self.first: Future[int] = loop.create_future()
        """The first signal that asks for an end."""
        self.terminate: Future[int] = loop.create_future()
        """SIGTERM: a supervisor, which will not wait for ever."""
        self.insisted: Future[int] = loop.create_future()
        """Another one, or one after the command's end, or nobody guards us any more."""
        for signum in self.PASSED:
            # What was ignored before, as SIGHUP is under nohup, stays so for the command too.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                loop.add_signal_handler(signum, self._pass_on, signum)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.PASSED)  # See `guarded`.
        loop.add_reader(guard, self._unguarded, guard)

    def _unguarded(self, guard: int) -> None:
        asyncio.get_running_loop().remove_reader(guard)
        self._pass_on(signal.SIGTERM)
        settle(self.insisted, signal.SIGTERM)

    def _pass_on(self, signum: int) -> None:
        self._command.signal(signum)
        if signum in (signal.SIGUSR1, signal.SIGUSR2):
            return
        settle(self.first, signum)
        if self._command.exited.done() or (signum == signal.SIGTERM and self.terminate.done()):
            settle(self.insisted, signum)
        if signum == signal.SIGTERM:
            settle(self.terminate, signum)


def settle(future: Future[int], value: int) -> None:
    """The first value stays."""
    if not future.done():
        future.set_result(value)


def guarded(work: Callable[[int, int], int], grace: float, terminal: Terminal | None = None) -> int:
    """Do `work` in a process of its own; its exit code.

    The two guard each other, since nobody cleans up after a SIGKILL of their own. When the worker
    is killed, we end what it has left behind: its command's process group, which it writes to the
    second pipe, is all that some systems let us find. When we are, the first pipe, whose reading
    end `work` is given, comes to its end, and the worker goes on as after a SIGTERM.
    """
    tree = Tree()
    reading, writing = os.pipe()
    group_reading, group_writing = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, Signals.PASSED)
    worker = os.fork()
    if worker == 0:
        os.close(writing)
        os.close(group_reading)
        os.setsid()  # What the terminal sends comes to us by the guard alone, and so only once.
        os._exit(work(reading, group_writing))
    os.close(reading)
    os.close(group_writing)
    for signum in Signals.PASSED:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, lambda signum, _: send(os.kill, worker, signum))
    # Stopped by Ctrl-Z, nothing would hold the command to its time.
    signal.signal(signal.SIGTSTP, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, Signals.PASSED)
    with typed_for(terminal):
        _, status = os.waitpid(worker, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        tree.group = int(os.read(group_reading, 20) or 0) or None
        asyncio.run(tree.end(grace, lambda text: print(f"hourglass: {text}", file=sys.stderr)))
    return code if code >= 0 else 128 - code


def work(
    options: argparse.Namespace,
    settings: Settings,
    terminal: Terminal | None,
    guard: int,
    group: int,
) -> int:
    """Run a command as a job; the exit code.

    `guard` is readable when nobody guards us; to `group` the command's process group is written.
    """
    try:
        return asyncio.run(run(options, settings, terminal, guard, group))
    except BaseException:
        traceback.print_exc()
        os.kill(os.getpid(), signal.SIGKILL)  # The guard ends what we can no longer answer for.
        raise


async def run(
    options: argparse.Namespace,
    settings: Settings,
    terminal: Terminal | None,
    guard: int,
    group: int,
) -> int:
    """Run a command as a job; the exit code."""
    notices = Notices(options.quiet, terminal)
    argv = options.command[1:] if options.command[:1] == ["--"] else options.command
    lease = options.lease or None
    name = options.name or name_of(argv)
    plan = Plan(name, options.time, lease, options.note, options.if_running)
    output = Output(reading_of(options.progress, " ".join(argv)))
    command = Command(notices.say, group)
    signals = Signals(command, guard)
    owner = Owner(settings, plan, output, notices.say)
    try:
        return await Run(options, command, signals, owner, output, notices.say, terminal).run(argv)
    except Refused as refused:
        notices.say(f"not run: {refused}")
        if refused.code != "conflict":
            return Exit.NOT_RUN
        return Exit.DONE if options.if_running == "keep" else Exit.CONFLICT
    finally:
        await owner.close()
        notices.close()


@dataclass
class Run:
    """One command and one job, joined."""

    options: argparse.Namespace
    command: Command
    signals: Signals
    owner: Owner
    output: Output
    say: Callable[[str], None]
    terminal: Terminal | None

    async def run(self, argv: Sequence[str]) -> int:
        """Run the command; the exit code. Raises `Refused` when the job may not start."""
        patience = self.options.patience
        waiting: set[Future[Any]] = {self.owner.admitted, self.signals.first}
        await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if self.owner.admitted.done():
            self.owner.admitted.result()
        if self.signals.first.done():
            return await self._not_run(128 + self.signals.first.result(), "interrupted")
        limit_at = self.owner.begin()
        try:
            self.command.start(argv, self.output.channel, self.terminal)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            code = Exit.NOT_FOUND if missing else Exit.NOT_EXECUTABLE
            return await self._not_run(code, f"{argv[0]}: {error.strerror}")
        code = await self._until_end(limit_at)
        await self.command.drained(DRAIN)
        if self.terminal is not None:
            self.terminal.ended()
        result = {"exit": self.command.exited.result(), "output": self.output.last_lines()}
        await self.owner.report(result, patience)
        drained = asyncio.create_task(self.command.drained())
        # Whoever reads our output may never do so again.
        left: set[Future[Any]] = {drained, self.signals.insisted}
        await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        return code

    async def _not_run(self, code: int, why: str) -> int:
        self.say(why)
        await self.owner.report({"exit": code, "output": why}, self.options.patience)
        return code

    async def _until_end(self, limit_at: float) -> int:
        """Wait for the end of the command, or bring it about; our exit code."""
        exited, killed = self.command.exited, self.owner.ended
        limit = asyncio.create_task(until(limit_at))
        causes: set[Future[Any]] = {exited, killed, limit, self.signals.terminate}
        await asyncio.wait(causes, return_when=asyncio.FIRST_COMPLETED)
        limit.cancel()
        if exited.done():
            return exited.result()
        code = None
        if killed.done() and killed.result()["state"] == "killed":
            self.say(killing(killed.result()))
            code = Exit.KILLED
        elif killed.done() or limit.done():
            self.say(f"its time of {duration(self.options.time)} is over")
            code = Exit.TIMED_OUT
        await self.command.end(self.options.grace)
        return exited.result() if code is None else code


async def until(at: float) -> None:
    """Wait until `clock` says so, in steps: the loop's own clock may stand still in between."""
    while (left := at - clock()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(min(1, left))
