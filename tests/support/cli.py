"""The command line under test, as a process of its own: what is in the file of the server.

It is unpacked, as Python compiles a folder once, and an archive each time that it is run.
"""

import asyncio
import os
import signal
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from server.doors.downloads import zipapp

FOLDER = tempfile.TemporaryDirectory(prefix="hourglass-")
"""Kept until the tests end, and removed then."""
HOURGLASS = Path(FOLDER.name, "hourglass")
ZipFile(BytesIO(zipapp().body)).extractall(HOURGLASS)

PATIENCE = 20


class Cli:
    """A process of the command line; when it has ended, `stdout` and `stderr` are there."""

    def __init__(self, url: str, *args: str, python: Path | str = sys.executable, **more: Any):
        self.argv = [str(python), str(HOURGLASS), *args]
        environ = {key: value for key, value in os.environ.items() if "HOURGLASS" not in key}
        self._environ = {**environ, "HOURGLASS_URL": url, "HOURGLASS_BY": "eve", **more}
        self.stdout = b""
        self.stderr = b""
        self._ended = False
        self.process: asyncio.subprocess.Process

    async def start(self, **options: Any) -> "Cli":
        """Start it, by default with pipes for its output, in a process group of its own.

        A command is in the group of its run, and the parent of a command is in another. Where a
        process like that ends while another of its group is stopped, and none has a parent outside
        of it in their session, the kernel sends the whole group a SIGHUP: so it would the tests.
        """
        defaults: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), asyncio.subprocess.PIPE)
        if not options.get("start_new_session"):
            defaults["process_group"] = 0
        self.process = await asyncio.create_subprocess_exec(
            *self.argv, env=self._environ, **{**defaults, **options}
        )
        return self

    async def end(self, patience: float = PATIENCE) -> int:
        """Give it no more input and wait for its end; the exit code."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        async with asyncio.timeout(patience):
            out, err = await self.process.communicate()
        self._ended = True
        self.stdout += out or b""
        self.stderr += err or b""
        assert self.process.returncode is not None
        return self.process.returncode

    async def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self.process.stdout.readline()
        self.stdout += line
        return line.decode().rstrip("\n")

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    @property
    def said(self) -> str:
        return self.stderr.decode()

    async def __aenter__(self) -> "Cli":
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        if not self._ended:
            await self.end()


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
