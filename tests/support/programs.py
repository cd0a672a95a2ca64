"""Programs under test that use the library, each a process of its own."""

import asyncio
import contextlib
import os
import signal
import sys
import textwrap
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from typing import Any

from server.app import App
from tests.support.servers import ROOT, command

PATIENCE = 30
PRELUDE = """
import os, sys, threading, time
import hourglass

def say(*words):
    print(*words, flush=True)

def wait():
    sys.stdin.readline()

def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

"""


class Program:
    """A program in Python; when it has ended, `stdout` and `stderr` are there."""

    def __init__(
        self,
        url: str,
        source: str,
        *,
        python: str = sys.executable,
        args: Sequence[str] = (),
        **more: str,
    ) -> None:
        environ = {key: value for key, value in os.environ.items() if "HOURGLASS" not in key}
        self._environ = {**environ, "HOURGLASS_URL": url, "HOURGLASS_BY": "eve", **more}
        self._environ["PYTHONPATH"] = str(ROOT / "client")
        self._argv = [python, "-u", "-c", PRELUDE + textwrap.dedent(source), *args]
        self.stderr = ""
        self.process: asyncio.subprocess.Process

    async def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    def go(self) -> None:
        """Let it go on where it waits for a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def end(self) -> list[str]:
        """Wait for its end; what it has printed since."""
        async with asyncio.timeout(PATIENCE):
            out, err = await self.process.communicate()
        self.stderr = err.decode()
        return out.decode().splitlines()

    @property
    def code(self) -> int | None:
        return self.process.returncode

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    async def __aenter__(self) -> "Program":
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), PIPE)
        self.process = await asyncio.create_subprocess_exec(
            *self._argv, env=self._environ, start_new_session=True, **pipes
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.end()


async def shown(app: App, *names: str) -> dict[str, Any]:
    """What is running, by name, once these are."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = {job["connid"]: job for job in (await command(app, "status"))["jobs"]}
            if set(names) <= set(found):
                return found
            await asyncio.sleep(0.02)


async def ended(app: App, name: str = "job", **fields: Any) -> dict[str, Any]:
    """The last job of this name that has ended, once it has these fields."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for job in (await command(app, "history", connid=name))["jobs"]:
                if all(job.get(field) == value for field, value in fields.items()):
                    return dict(job)
                break
            await asyncio.sleep(0.02)


async def stopped(app: App, name: str = "job") -> dict[str, Any]:
    """The last job of this name, once it was killed and its work is gone."""
    async with asyncio.timeout(PATIENCE):
        while True:
            job = await ended(app, name, state="killed")
            if job.get("stopped_at") is not None:
                return job
            await asyncio.sleep(0.02)
