"""The process beside a program that keeps its jobs on the server.

It hears of starts, progress and ends over a socket, an object of JSON on each line, and tells of
kills. When the program dies, however, the socket ends, and with it the program's jobs.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
from typing import Any

from hourglass.errors import SettingsError
from hourglass.kept_job import KeptJob
from hourglass.link import Link
from hourglass.settings import Json, Settings

LAST_WORDS = 60.0
"""Seconds to tell an absent server of what has ended with the program."""
UNKNOWN = 100
"""Jobs that have ended before the server could hear of them, and are told of all the same."""


def main() -> None:
    """What the process runs; its input is the socket."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # It ends with its program.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(0, os.getppid())


def run(descriptor: int, program: int) -> None:
    """Keep the jobs of a program, until it is gone and its jobs have ended."""
    with contextlib.suppress(Exception):  # It has another one then.
        asyncio.run(LeaseKeeper(program).keep(descriptor))


class LeaseKeeper:
    """All jobs of one program."""

    def __init__(self, program: int) -> None:
        self._program = program
        self._links: dict[str, Link] = {}
        self._jobs: dict[int, KeptJob] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._writer: asyncio.StreamWriter

    async def keep(self, descriptor: int) -> None:
        reader, self._writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
        self._watch_program(reader)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self._take(json.loads(line))
        for job in self._jobs.values():
            job.lose_program()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=LAST_WORDS)

    def _watch_program(self, reader: asyncio.StreamReader) -> None:
        """Notice its end also where something else has its end of the socket."""
        if hasattr(os, "pidfd_open") and self._program != os.getpid():
            loop = asyncio.get_running_loop()
            with contextlib.suppress(OSError):
                found = os.pidfd_open(self._program)

                def end() -> None:
                    loop.remove_reader(found)
                    loop.call_later(0.2, reader.feed_eof)  # What it has said last comes first.

                loop.add_reader(found, end)

    def _take(self, message: Json) -> None:
        what, id = message.pop("do"), message.pop("id")
        if what == "start":
            self._start(id, message)
        elif (job := self._jobs.get(id)) is not None:
            if what == "progress":
                job.report(message["done"], message["note"])
            elif what == "interrupt":
                job.interrupt()
            elif what == "end":
                job.leave(message["outcome"], message["result"])
                self._forget_unknown()

    def _start(self, id: int, message: Json) -> None:
        def tell(say: str, **more: Any) -> None:
            self._say(say, id=id, **more)

        flags = message.pop("settings")
        try:
            link = self._link(flags)
        except SettingsError as error:
            self._say("problem", text=str(error))
            self._say("away")
            return
        job = KeptJob(link, self._program, message, tell)
        for other in self._jobs.values():
            other.shared = job.shared = True
        self._jobs[id] = job
        self._tasks[id] = task = asyncio.get_running_loop().create_task(self._keep(id, job))
        task.add_done_callback(lambda _: self._tasks.pop(id, None))

    async def _keep(self, id: int, job: KeptJob) -> None:
        try:
            await job.keep()
        except Exception as error:
            self._say("problem", text=f"a job is not shown any more: {error!r}")
        finally:
            del self._jobs[id]
            self._say("over", id=id)

    def _link(self, flags: dict[str, str]) -> Link:
        key = json.dumps(flags, sort_keys=True)
        if key not in self._links:
            self._links[key] = Link(
                Settings.load(flags, os.environ, lambda text: self._say("problem", text=text)),
                self._say,
            )
        return self._links[key]

    def _say(self, say: str, **more: Any) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"say": say, **more}).encode() + b"\n")

    def _forget_unknown(self) -> None:
        unknown = [id for id, job in self._jobs.items() if job.unknown]
        for id in unknown[:-UNKNOWN]:
            self._tasks[id].cancel()
