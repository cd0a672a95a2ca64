"""`hourglass run`: joins a command and a job, in a process that another one guards."""

import argparse
import asyncio
import contextlib
import os
import queue
import signal
import threading
import traceback
from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hourglass.errors import Exit, Refused, shell_code
from hourglass.formatting import duration, killing, printable
from hourglass.guard import Facts, Guard, Link
from hourglass.naming import name_of
from hourglass.output import Output
from hourglass.owner import Owner, Plan
from hourglass.process import Command
from hourglass.progress.reading import reading_of
from hourglass.settings import Settings, clock
from hourglass.signals import SAME_WISH, Signals, settle
from hourglass.terminal import Terminal, typed_for

DRAIN = 2.0
"""Seconds for output that nobody takes before the end of the command is reported."""
LOST_WORKER = "hourglass itself was killed"
"""In place of the last lines, which are lost then."""


class Notices:
    """Says things on stderr, from a thread: whoever reads that may not do so."""

    def __init__(self, quiet: bool, terminal: Terminal | None = None) -> None:
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


def guarded(
    options: argparse.Namespace, settings: Settings, terminal: Terminal | None = None
) -> int:
    """Run a command as a job, in a worker that we guard.

    Returns the exit code, or below 0 the number of the signal that the command died of.
    """
    again = bool(options.retry or options.quiet_ok or options.on_fail)
    guard = Guard(terminal, keeps_descriptors=again)
    guard.start(lambda link: work(options, settings, link))
    with typed_for(terminal):
        code = guard.wait()
    guard.close()
    told = guard.will.read()
    if code < 0:
        asyncio.run(after_the_worker(options, settings, guard, told))
        code = shell_code(code)
    elif "untold" in told and options.report_for > 0:
        guard.leave(lambda: asyncio.run(report(options, settings, told, options.report_for)))
    guard.restore_mask()
    return -told["died"] if "died" in told else code


def work(options: argparse.Namespace, settings: Settings, link: Link) -> int:
    """Run a command as a job; the exit code."""
    try:
        code = asyncio.run(run(options, settings, link))
        link.wake_guard()
    except BaseException:
        traceback.print_exc()
        os.kill(os.getpid(), signal.SIGKILL)  # The guard ends what we can no longer answer for.
        raise
    if code < 0:
        link.tell(died=-code)
    return shell_code(code)


async def run(options: argparse.Namespace, settings: Settings, link: Link) -> int:
    """Run a command as a job; the exit code, or below 0 the signal that it died of."""
    notices = Notices(options.quiet, link.terminal)
    argv = options.command
    output = Output(reading_of(options.progress, " ".join(argv)))
    command = Command(link)
    signals = Signals(link.signals, command.signal)
    link.listen()
    owner = Owner(settings, plan_of(options, argv), output, notices.say, remember=link.tell)
    try:
        return await Run(options, command, signals, owner, output, notices.say, link).run(argv)
    except Refused as refused:
        notices.say(f"not run: {refused}")
        if refused.code != "conflict":
            return Exit.NOT_RUN
        return Exit.DONE if options.if_running == "keep" else Exit.CONFLICT
    finally:
        await owner.close()
        notices.close()


async def after_the_worker(
    options: argparse.Namespace, settings: Settings, guard: Guard, told: Facts
) -> None:
    """End what a worker that was killed has left behind, and its job."""
    enough = guard.listen()
    notices = Notices(options.quiet)
    guard.tree.group = told.get("group")
    if "exit" not in told:  # What a command leaves running when it ends by itself lives on.
        guard.tree.signal(signal.SIGTERM)
        if not await guard.tree.outlast(options.grace, notices.say, enough):
            notices.close()
            return
    if "untold" not in told:
        code = told.get("exit", 128 + signal.SIGKILL)
        told["untold"] = {"exit": code, "output": LOST_WORKER}
    await report(options, settings, told, options.patience, notices.say)
    notices.close()


async def report(
    options: argparse.Namespace,
    settings: Settings,
    told: Facts,
    within: float,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Tell in place of a worker how its command ended, if the server knows of the job."""
    run, key = told.get("run"), told.get("key")
    if run or key:
        plan = plan_of(options, options.command)
        owner = Owner(settings, plan, Output(reading_of("none", "")), say, run=run, key=key)
        owner.begin()
        await owner.report(told["untold"], within)
        await owner.close()


def plan_of(options: argparse.Namespace, argv: Sequence[str]) -> Plan:
    """The job that the options ask for."""
    return Plan(
        options.name or name_of(argv),
        options.time,
        options.lease or None,
        options.note,
        options.if_running,
        options.grace,
    )


@dataclass
class Run:
    """One command and one job, joined."""

    options: argparse.Namespace
    command: Command
    signals: Signals
    owner: Owner
    output: Output
    say: Callable[[str], None]
    link: Link

    async def run(self, argv: Sequence[str]) -> int:
        """Run the command; the exit code, or below 0 the signal that it died of.

        Raises `Refused` when the job may not start.
        """
        if (code := await self._admitted()) is not None:
            return code
        self.owner.begin()
        try:
            self.command.start(argv, self.output.channel)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            code = Exit.NOT_FOUND if missing else Exit.NOT_EXECUTABLE
            return await self._not_run(code, f"{argv[0]}: {error.strerror}")
        code = await self._until_end()
        if not self.command.exited.done():
            return code  # Its end is not known, and not told.
        await self.command.drained(DRAIN)
        if self.link.terminal is not None:
            self.link.terminal.ended()
        exit = shell_code(self.command.exited.result())
        result = {"exit": exit, "output": self.output.last_lines()}
        self.link.tell(exit=exit)
        if not await self.owner.report(result, self.options.patience):
            self.link.tell(untold=result)
        drained = asyncio.create_task(self.command.drained())
        # Whoever reads our output may never do so again.
        left: set[Future[Any]] = {drained, self.signals.insisted}
        await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        self.command.leave()
        return code

    async def _admitted(self) -> int | None:
        """Wait until the command may run; else the exit code. Raises `Refused`."""
        owner, first = self.owner, self.signals.first
        waiting: set[Future[Any]] = {owner.admitted, owner.ended, first}
        for patience in (self.options.patience, self.options.grace):
            await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not owner.replacing:
                break
        if owner.admitted.done():
            owner.admitted.result()
        if first.done():
            return await self._not_run(-first.result(), "interrupted")
        if owner.ended.done() and owner.ended.result()["state"] == "killed":
            return await self._not_run(Exit.KILLED, killing(owner.ended.result()))
        return None

    async def _not_run(self, code: int, why: str) -> int:
        self.say(why)
        await self.owner.report({"exit": shell_code(code), "output": why}, self.options.patience)
        return code

    async def _until_end(self) -> int:
        """Wait for the end of the command, or bring it about; our exit code."""
        exited, killed = self.command.exited, self.owner.ended
        limit = asyncio.create_task(until_limit(self.owner))
        causes: set[Future[Any]] = {exited, killed, limit, self.signals.terminate}
        await asyncio.wait(causes, return_when=asyncio.FIRST_COMPLETED)
        limit.cancel()
        if exited.done() and exited.result() == -signal.SIGKILL:
            await asyncio.sleep(SAME_WISH)  # Whoever kills all of us gets to our guard, too.
        if exited.done() and self.link.is_guarded():
            return exited.result()  # What it has left running was left on purpose.
        code = None
        if killed.done() and killed.result()["state"] == "killed":
            self.say(killing(killed.result()))
            code = Exit.KILLED
        elif killed.done() or limit.done():
            self.say(time_over(self.owner))
            code = Exit.TIMED_OUT
        if exited.done():
            self.command.signal_rest()  # Somebody has killed it together with our guard.
        elif code is not None:
            self.command.signal(signal.SIGTERM)
            settle(self.signals.terminate, signal.SIGTERM)  # Of another one we hear as the second.
        gone = await self.command.end(self.options.grace, self._goes_on, self.signals.insisted)
        if code is None:
            return exited.result() if gone else -signal.SIGTERM
        return code

    def _goes_on(self, what: str) -> None:
        """Say what of the command cannot be ended, to everyone."""
        self.say(what)
        self.owner.note(what)


def time_over(owner: Owner) -> str:
    """What is said of a command whose time is over."""
    return f"its time of {duration(round(owner.time, 3))} is over"


async def until_limit(owner: Owner) -> None:
    """Wait until the time of a command is over, in steps: it may be given more, and the loop's own
    clock may stand still in between."""
    while (left := owner.limit_at - clock()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(min(1, left))
