"""Redis servers for the tests: one that all share, and others that can be killed and paused."""

import asyncio
import atexit
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any, Self

from tests.support.dates import Date
from tests.support.load import free_port

PATIENCE = 20
"""Seconds that a server may take to start."""


class RedisServer:
    """A Redis process on a port of its own, with its files in a folder."""

    def __init__(self, folder: Path, *, keeps: bool = False) -> None:
        self.folder = folder
        self.port = free_port()
        self._keeps = KEEPS if keeps else FORGETS
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def command(self) -> list[str]:
        """How it is started."""
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return ["redis-server", *where, *self._keeps, "--repl-diskless-sync-delay", "0"]

    def start(self) -> Self:
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # See `Cli.start`: tests stop it.
            )
        end = time.monotonic() + PATIENCE
        while not listens(self.port):
            if self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError((self.folder / "redis.log").read_text()[-500:])
            time.sleep(0.01)
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def signal(self, signum: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(signum)

    async def call(self, *command: Any) -> bytes:
        """Give it one command on a connection of its own; the answer as it comes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(" ".join(map(str, command)).encode() + b"\r\n")
        answer = await asyncio.wait_for(reader.readline(), PATIENCE)
        writer.close()
        await writer.wait_closed()
        return answer.strip()

    async def info(self, name: str) -> str:
        """One of the things that it tells of itself."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"INFO\r\n")
        line = ""
        while not line.startswith(f"{name}:"):
            line = (await asyncio.wait_for(reader.readline(), PATIENCE)).decode()
        writer.close()
        await writer.wait_closed()
        return line.partition(":")[2].strip()

    async def tells(self, name: str, what: str) -> None:
        """Wait until it tells that of itself."""
        async with asyncio.timeout(PATIENCE):
            while what not in await self.info(name):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def has_reached(self, master: "RedisServer") -> None:
        """Wait until it has all that its master has now."""
        target = int(await master.info("master_repl_offset"))
        async with asyncio.timeout(PATIENCE):
            while int(await self.info("slave_repl_offset")) < target:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def clients(self) -> int:
        """How many connections it has, besides the one that asks."""
        return int(await self.info("connected_clients")) - 1

    def read_log(self) -> bytes:
        """All that it has written to its append-only file."""
        files = (self.folder / "appendonlydir").glob("*.aof")
        return b"".join(file.read_bytes() for file in files)

    def copy(self) -> dict[Path, bytes]:
        """Its files as they are now."""
        return {file: file.read_bytes() for file in (self.folder / "appendonlydir").iterdir()}

    def restore(self, files: dict[Path, bytes]) -> None:
        """Give it back its files as they were."""
        for file, content in files.items():
            file.write_bytes(content)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class DatedServer(RedisServer):
    """One whose clock a test sets."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, keeps=True)
        self.date = Date(folder)

    def command(self) -> list[str]:
        given = [f"{name}={value}" for name, value in self.date.environ.items()]
        return ["env", *given, *super().command()]


class TlsServer(RedisServer):
    """One that speaks TLS, with a certificate that nobody has signed but itself."""

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        key, certificate = str(self.folder / "key"), str(self.folder / "certificate")
        made = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=elsewhere")
        named = ("-addext", "subjectAltName=IP:127.0.0.1")
        subprocess.run(
            ["openssl", "req", *made, *named, "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        files = ("--tls-key-file", key, "--tls-cert-file", certificate, "--tls-auth-clients", "no")
        return [*super().command(), "--port", "0", "--tls-port", str(self.port), *files]


class Sentinel(RedisServer):
    """One that watches over another, and puts a replica in its place when it is gone."""

    def __init__(self, folder: Path, watched: RedisServer) -> None:
        super().__init__(folder)
        (folder / "sentinel.conf").write_text(
            f"sentinel monitor jobs 127.0.0.1 {watched.port} 1\n"
            "sentinel down-after-milliseconds jobs 1000\n"
            "sentinel failover-timeout jobs 3000\n"
        )

    @property
    def url(self) -> str:
        # The first address is that of a sentinel that is not there.
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.port}/jobs"

    def command(self) -> list[str]:
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return ["redis-server", str(self.folder / "sentinel.conf"), "--sentinel", *where]


class SocketServer(RedisServer):
    """One that can be reached through a Unix socket, too."""

    @property
    def path(self) -> Path:
        return self.folder / "redis.sock"

    def command(self) -> list[str]:
        return [*super().command(), "--unixsocket", str(self.path)]


KEEPS = ("--appendonly", "yes", "--save", "")
FORGETS = ("--appendonly", "no", "--save", "")


@cache
def shared() -> RedisServer:
    """The server for all tests that leave it in peace, each with a prefix of its own."""
    folder = Path(tempfile.mkdtemp(prefix="hourglass-redis-"))
    server = RedisServer(folder)

    def end() -> None:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return server.start()


def settings() -> dict[str, Any]:
    """The settings for a log of its own on the shared server."""
    place = {"redis_url": shared().url, "redis_prefix": secrets.token_hex(6)}
    return {**place, "transports": "websocket,polling"}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
