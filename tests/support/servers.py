"""Servers under test: in the test's own loop, or as a process that can be killed."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from server.access.auth import Identity
from server.access.rate_limits import TokenBucket
from server.app import App
from server.config import Config
from server.contract.messages import encode
from server.core.replies import Caller
from tests.support.forge import Forked, fork

ROOT = Path(__file__).parent.parent.parent
UNLIMITED: dict[str, Any] = {
    "connect_rate": 0,
    "rate_limit_address": 0,
    "max_connections": 0,
    "max_connections_address": 0,
}
"""A test is a whole crowd that comes from one address."""
DEFAULTS: dict[str, Any] = {
    "port": 0,
    "database": ":memory:",
    "presence_interval": 0.1,
    **UNLIMITED,
}


class Clock:
    """A machine's date that a test sets, and the time that passes there."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now
        """What passes: add to it."""
        self.set_by = 0.0
        """By how much the date was set: change it for a step."""

    def __call__(self) -> float:
        return self.now + self.set_by

    def steady(self) -> float:
        return self.now


async def eventually(check: Callable[[], Any], patience: float = 10) -> None:
    """Wait until `check` is true, where nothing tells when it becomes so."""
    async with asyncio.timeout(patience):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def command(app: App, name: str, **payload: Any) -> dict[str, Any]:
    """Give a command without a connection; the answer as a client would see it."""
    caller = Caller(Identity("ana"), "socket", TokenBucket(0))
    return seen(await app.commands.answer(caller, name, payload))


def seen(message: Any) -> Any:
    """A message as it looks at the other end of the wire."""
    return json.loads(encode(message))


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[App]:
    """A server in this loop, on a free port, with no file unless `database` names one."""
    parts: dict[str, Any] = {
        name: settings.pop(name) for name in ("now", "on_change") if name in settings
    }
    if isinstance(now := parts.get("now"), Clock):
        parts["steady"] = now.steady
    app = App(Config(**{**DEFAULTS, **settings}), **parts)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


class Process:
    """A server of its own process, which can be killed and started again on the same port."""

    forks = True
    """Whether it starts in an instant, and not with an interpreter of its own as that of users."""

    def __init__(self, database: Path, **environ: str) -> None:
        self.database = database
        self.environ = environ
        self.port = 0
        self.log = ""
        self._process: asyncio.subprocess.Process | Forked | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> Self:
        """Start it and wait until it listens."""
        await self._spawn()
        assert self._process is not None and self._process.stdout is not None
        line = (await asyncio.wait_for(self._process.stdout.readline(), 20)).decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            await self._process.wait()
            await self._finish_reading()
            raise AssertionError(f"the server did not start: {line}{self.log}")
        self.port = int(found[1])
        return self

    async def fail(self) -> int:
        """Start it, expecting that it gives up; its exit code."""
        await self._spawn()
        assert self._process is not None
        code = await asyncio.wait_for(self._process.wait(), 20)
        await self._finish_reading()
        return code

    async def kill(self) -> None:
        """End it as a power cut would."""
        self._signal(signal.SIGKILL)
        await self.wait()

    async def terminate(self, timeout: float = 20) -> int:
        """End it as a platform does; its exit code."""
        self._signal(signal.SIGTERM)
        return await self.wait(timeout)

    async def wait(self, timeout: float = 20) -> int:
        assert self._process is not None
        code = await asyncio.wait_for(self._process.wait(), timeout)
        await self._finish_reading()
        return code

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    def _signal(self, signum: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(signum)

    def environment(self) -> dict[str, str]:
        """The environment that it is started with."""
        return {
            **os.environ,
            "PORT": str(self.port),
            "DATABASE": str(self.database),
            "RATE_LIMIT": "0",
            "LOG_LEVEL": "WARNING",
            "LOG_FORMAT": "text",
            **{name.upper(): str(value) for name, value in UNLIMITED.items()},
            **self.environ,
        }

    async def _spawn(self) -> None:
        environ = self.environment()
        if self.forks:
            self._process = await fork(environ)
        else:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "server",
                cwd=ROOT,
                env=environ,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                process_group=0,  # See `Cli.start`: tests stop it.
            )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        async for line in self._process.stderr:
            self.log += line.decode()

    async def _finish_reading(self) -> None:
        if self._reading is not None:
            await self._reading
            self._reading = None
