"""`hourglass run --pid`: makes a job of a process that runs already. Linux only."""

import argparse
import asyncio
import os
import signal
import sys
from asyncio import Future
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hourglass.errors import Exit, Refused, SettingsError
from hourglass.formatting import killing, printable
from hourglass.naming import name_of
from hourglass.output import Output
from hourglass.owner import Owner, Plan
from hourglass.progress.reading import Reading
from hourglass.runner import time_over, until_limit
from hourglass.settings import Settings, clock
from hourglass.signals import settle
from hourglass.tree import processes, send

LOOK_EVERY = 0.05
"""Seconds between two looks at what is left after a SIGTERM."""


class Attached:
    """A process that somebody else has started, with all that it starts."""

    def __init__(self, pid: int) -> None:
        """Raises `SettingsError` when there is no such process, or it cannot be watched."""
        if not hasattr(os, "pidfd_open"):
            raise SettingsError("--pid needs Linux")
        try:
            self._fd = os.pidfd_open(pid)
        except OSError as error:
            raise SettingsError(f"--pid {pid}: {error.strerror}") from None
        self._pid = pid
        self.argv = command_of(pid)
        self.gone: Future[None] = asyncio.get_running_loop().create_future()
        """Done when it has ended; with what exit code only its parent learns."""
        asyncio.get_running_loop().add_reader(self._fd, self._ended)

    async def end(self, grace: float, say: Callable[[str], None]) -> None:
        """SIGTERM for all, after `grace` seconds SIGKILL; returns when none is left."""
        left = self._below()
        self._signal(left, signal.SIGTERM)
        patience, told = clock() + grace, False
        while left := {pid for pid in left if pid in processes()} | self._below():
            if clock() > patience:
                self._signal(left, signal.SIGKILL)
            if clock() > patience + 5 and not told:
                told = True
                say(f"cannot end {', '.join(map(str, sorted(left)))}; still trying")
            await asyncio.sleep(LOOK_EVERY)

    def close(self) -> None:
        """Watch it no more."""
        if not self.gone.done():
            asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        self.gone.set_result(None)

    def _below(self) -> set[int]:
        """It and what it has started, as far as that runs."""
        if self.gone.done():
            return set()
        children = defaultdict(list)
        for pid, process in processes().items():
            children[process.parent].append(pid)
        found, pending = {self._pid}, [self._pid]
        while pending:
            new = children.pop(pending.pop(), [])
            found.update(new)
            pending += new
        return found

    def _signal(self, pids: set[int], signum: int) -> None:
        for pid in pids - {self._pid}:
            send(os.kill, pid, signum)
        send(lambda _, signum: signal.pidfd_send_signal(self._fd, signum), self._pid, signum)


def command_of(pid: int) -> list[str]:
    """The command line of a process."""
    try:
        found = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[:-1]
    except OSError:
        found = []
    return found or [str(pid)]


async def attach(options: argparse.Namespace, settings: Settings) -> int:
    """Make a job of a process; the exit code. Raises `SettingsError`."""
    process = Attached(options.pid)
    name = options.name or name_of(process.argv)
    plan = Plan(name, options.time, options.lease or None, options.note, options.if_running)

    def say(text: str) -> None:
        if not options.quiet:
            print(f"hourglass: {printable(text)}", file=sys.stderr, flush=True)

    owner = Owner(settings, plan, Output(Reading(())), say)
    try:
        return await follow(process, owner, options, say)
    except Refused as refused:
        say(f"not a job: {refused}")
        return Exit.CONFLICT if refused.code == "conflict" else Exit.NOT_RUN
    finally:
        await owner.close()
        process.close()


async def follow(
    process: Attached, owner: Owner, options: argparse.Namespace, say: Callable[[str], None]
) -> int:
    """Keep the job until the process has ended; the exit code. Raises `Refused`."""
    loop = asyncio.get_running_loop()
    left: Future[int] = loop.create_future()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, settle, left, signum)
    await asyncio.wait({owner.admitted}, timeout=options.patience)
    if owner.admitted.done():
        owner.admitted.result()
    owner.begin()
    limit = asyncio.create_task(until_limit(owner))
    causes: set[Future[Any]] = {process.gone, owner.ended, left, limit}
    await asyncio.wait(causes, return_when=asyncio.FIRST_COMPLETED)
    code, exit = Exit.DONE, None
    if process.gone.done():
        told = "its exit code is not known"
    elif left.done():
        code = exit = 128 + left.result()
        told = f"{options.pid} is no longer watched, and goes on"
        say(told)
    else:
        killed = owner.ended.done() and owner.ended.result()["state"] == "killed"
        told = killing(owner.ended.result()) if killed else time_over(owner)
        code = Exit.KILLED if killed else Exit.TIMED_OUT
        say(told)
        await process.end(options.grace, say)
    limit.cancel()
    await owner.report({"exit": exit, "output": told}, options.patience)
    return code
