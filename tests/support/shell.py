"""Shell scripts, and an interactive shell on a terminal, that use the command line as `$HG`."""

import asyncio
import contextlib
import os
import pty
import re
import shlex
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from typing import Any

from tests.support.cli import HOURGLASS, PATIENCE

HG = f"{shlex.quote(sys.executable)} {HOURGLASS}"


def environ(url: str, **more: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if "HOURGLASS" not in key}
    ours = {"HOURGLASS_URL": url, "HOURGLASS_BY": "eve", "HG": HG}
    return {**clean, **ours, **more}


async def script(url: str, text: str, **options: Any) -> Process:
    """A bash that runs a script in a process group of its own, with pipes for its output."""
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    return await asyncio.create_subprocess_exec(
        "bash", "-c", text, env=environ(url), process_group=0, **{**pipes, **options}
    )


async def output_of(url: str, text: str, **options: Any) -> tuple[str, int | None]:
    """What a script prints on stdout, and its exit code."""
    process = await script(url, text, **options)
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate()
    return out.decode(), process.returncode


class Terminal:
    """A terminal with an interactive bash on it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._read = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            shell = ("bash", "--norc", "--noprofile", "-i")
            os.execvpe("bash", shell, {**environ(url), "PS1": "READY> ", "TERM": "dumb"})
        os.set_blocking(self._fd, False)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    async def see(self, pattern: str) -> re.Match[str]:
        """Wait until the terminal shows something after what was seen before."""
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(pattern, self._read)):
                await asyncio.sleep(0.01)
                with contextlib.suppress(BlockingIOError, OSError):
                    self._read += os.read(self._fd, 65_536).decode(errors="replace")
        self._read = self._read[found.end() :]
        return found

    async def notice(self, pattern: str) -> None:
        """Press return until the shell has something to say of its jobs."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self.type("\n")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await self.see(pattern)
                        break
        await self.see("READY> ")
        self._read = "READY> "

    async def command(self, text: str) -> None:
        """Type a command once the shell is ready for it."""
        await self.see(r"READY> $")
        self.type(text + "\n")

    def close(self) -> None:
        os.close(self._fd)  # What runs there is hung up.
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@contextlib.asynccontextmanager
async def terminal(url: str) -> AsyncIterator[Terminal]:
    found = Terminal(url)
    try:
        yield found
    finally:
        found.close()
