"""The servers that are compared: how each is installed and started, and what it has used."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.doors import Bare, Door, Plain

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
VENV = ROOT / ".venv-bench"
PYTHON = str(VENV / "bin/python")
CORES = sorted(os.sched_getaffinity(0))
"""The first is the servers', the last the clients'."""


class Missing(Exception):
    """A peer cannot be run here; the message says why."""


class Rival:
    """A kind of server; each `start` begins a new process of it."""

    name = ""
    door: Door = Door()
    settles = 0.3
    """Seconds of silence after which it has nothing more to say to those who came."""
    program: tuple[str, ...] = ()
    """What is run, with the port as another argument."""

    cores = str(CORES[0])
    """What its processes run on, as `taskset` takes it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.port = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    def install(self) -> None:
        """Make sure that it can be run; raises `Missing`."""

    def environ(self) -> Mapping[str, str]:
        """Its own environment variables."""
        return {}

    def argv(self) -> list[str]:
        return [*self.program, str(self.port)]

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.port = free_port()
        self.run(self.argv(), self.port)

    def run(self, argv: list[str], port: int) -> None:
        """Start one of its processes on the servers' core."""
        with (self.scratch / "peers.log").open("ab") as log:
            process = subprocess.Popen(
                ["taskset", "-c", self.cores, *argv],
                cwd=ROOT,
                env={**os.environ, **self.environ()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        end = time.perf_counter() + 20
        while not listens(port):
            if process.poll() is not None or time.perf_counter() > end:
                self.stop()
                raise Missing(f"did not start: {(self.scratch / 'peers.log').read_text()[-300:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def cpu(self) -> list[float]:
        """CPU seconds of each process so far, of all threads; the server itself comes last."""
        # What clock_getcpuclockid(3) returns; Python does not have it.
        return [time.clock_gettime((~process.pid << 3) | 2) for process in self._processes]

    def memory(self) -> int:
        """Bytes that all processes have resident."""
        pages = 0
        for process in self._processes:
            pages += int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Hourglass(Rival):
    name = "Hourglass"
    settles = 1.3
    program = (sys.executable, "-m", "server", "--port")

    def environ(self) -> Mapping[str, str]:
        path = Path(tempfile.mkdtemp(dir=self.scratch)) / "hourglass.db"
        caps = dict.fromkeys(("RATE_LIMIT", "MAX_RUNNING", "MAX_RUNNING_ROOM"), "0")
        caps |= dict.fromkeys(("RATE_LIMIT_ADDRESS", "CONNECT_RATE"), "0")
        caps |= dict.fromkeys(("MAX_CONNECTIONS", "MAX_CONNECTIONS_ADDRESS"), "0")
        return {"DATABASE": str(path), "LOG_LEVEL": "WARNING", **caps}


class InMemory(Hourglass):
    name = "Hourglass, `:memory:`"

    def environ(self) -> Mapping[str, str]:
        return {**super().environ(), "DATABASE": ":memory:"}


class Node(Rival):
    name = "Socket.IO for Node"
    program = ("node", str(PEERS / "node.mjs"))

    def install(self) -> None:
        need("node", "npm")
        installed = PEERS / "node_modules" / "installed"
        if outdated(installed, PEERS / "package-lock.json"):
            call("npm", "ci", "--silent", cwd=PEERS)
            installed.touch()


class Stock(Rival):
    name = "stock python-socketio"
    program: tuple[str, ...] = (PYTHON, str(PEERS / "stock.py"))

    def install(self) -> None:
        installed, wanted = VENV / "installed", PEERS / "requirements.txt"
        if outdated(installed, wanted):
            call(sys.executable, "-m", "venv", str(VENV))
            quiet = ("--quiet", "--disable-pip-version-check")
            call(PYTHON, "-m", "pip", "install", *quiet, "-r", str(wanted))
            installed.touch()


class Channels(Stock):
    name = "Django Channels"
    door = Plain()
    program = (PYTHON, "-m", "uvicorn", "--log-level", "warning", "--app-dir", str(PEERS))
    redis = 0

    def install(self) -> None:
        super().install()
        if shutil.which("redis-server") is None:
            call("scripts/need.sh", "redis-server:redis-server")

    def environ(self) -> Mapping[str, str]:
        return {"REDIS_PORT": str(self.redis)}

    def argv(self) -> list[str]:
        return [*self.program, "django_channels:app", "--port", str(self.port)]

    def start(self) -> None:
        self.redis = free_port()
        keeps = ("--save", "", "--appendonly", "no", "--dir", str(self.scratch))
        where = ("--bind", "127.0.0.1", "--port", str(self.redis))
        self.run(["redis-server", *where, *keeps], self.redis)
        super().start()


class Limit(Rival):
    name = "`send()` in a loop"
    door = Bare()
    size = 300
    """Bytes of the frame that is sent."""

    def install(self) -> None:
        need("cc")
        call("cc", "-O2", "-o", str(self.scratch / "limit"), str(PEERS / "limit.c"))

    def argv(self) -> list[str]:
        return [str(self.scratch / "limit"), str(self.port), str(self.size)]


def need(*programs: str) -> None:
    """Raise `Missing` where one of the programs is not there."""
    for program in programs:
        if shutil.which(program) is None:
            raise Missing(f"there is no {program}")


def call(*argv: str, cwd: Path = ROOT) -> None:
    """Run a command that has to succeed; raises `Missing`."""
    done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"`{' '.join(argv[:4])}` has failed: {done.stderr.strip()[-300:]}")


def outdated(made: Path, source: Path) -> bool:
    """Whether something has to be made again."""
    return not made.exists() or made.stat().st_mtime < source.stat().st_mtime


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
