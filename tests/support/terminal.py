"""A terminal under test: a shell in it, or one program, what is typed and what is shown."""

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from typing import Any

from tests.support.cli import PATIENCE, Cli


class Screen:
    """The user's side of a terminal of 80 columns."""

    def __init__(self) -> None:
        self.shown = b""
        self._seen = 0
        self._more = asyncio.Event()
        self.master, self.slave = os.openpty()
        self.resize(24, 80)
        os.set_blocking(self.master, False)
        asyncio.get_running_loop().add_reader(self.master, self._read)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    async def until(self, text: str) -> None:
        """Wait until a text is shown, after the last one that was waited for."""
        try:
            async with asyncio.timeout(PATIENCE):
                while (found := self.shown.find(text.encode(), self._seen)) < 0:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} is not in {self.shown[self._seen :]!r}") from None
        self._seen = found + len(text.encode())

    @property
    def is_raw(self) -> bool:
        return not self.modes[3] & termios.ICANON and not self.modes[1] & termios.OPOST

    async def start(self, cli: Cli) -> Cli:
        """Start a run as the only program in it."""
        return await cli.start(**self._options())

    async def shell(self, url: str) -> asyncio.subprocess.Process:
        """Start an interactive shell in it."""
        environ = {**os.environ, "PS1": "$ ", "HOURGLASS_URL": url, "TERM": "dumb"}
        shell = ("bash", "--norc", "--noprofile", "-i")
        return await asyncio.create_subprocess_exec(*shell, env=environ, **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            **dict.fromkeys(("stdin", "stdout", "stderr"), self.slave),
            "start_new_session": True,
            "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        }

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self.slave)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self.shown += os.read(self.master, 65_536)
        self._more.set()
