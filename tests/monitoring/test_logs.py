"""A log that nobody reads, or that cannot be written, holds up nobody."""

import asyncio
import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from server.monitoring.sink import Sink
from tests.conftest import Connect
from tests.support.clients import PATIENCE
from tests.support.load import free_port
from tests.support.servers import ROOT, Process, eventually

pytestmark = pytest.mark.slow

Ends = tuple[int, int]
"""Where one reads what is written at the other."""
SMALL = 4096
JOBS = 200
"""So many lines of log fill any of the files below, and the buffer with them."""


class Logging(Process):
    """A server that is given what it writes its log to, and perhaps its banner as well."""

    def __init__(self, database: Path, stderr: int | None, **environ: str) -> None:
        told = {"LOG_LEVEL": "INFO", "LOG_FORMAT": "json", "LOG_BUFFER": str(SMALL)}
        super().__init__(database, **{**told, **environ})
        self.stderr = stderr

    async def _spawn(self) -> None:
        closing = ["2>&-"] if self.stderr is None else []
        command = f'exec "{sys.executable}" -m server {" ".join(closing)}'
        self._process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", command),
            cwd=ROOT,
            env=self.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=self.stderr,
        )


def small_pipe() -> Ends:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SMALL)
    return reading, writing


def terminal() -> Ends:
    return os.openpty()


def unix_socket() -> Ends:
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    return ours.detach(), theirs.detach()


UNREAD = (small_pipe, terminal, unix_socket)


@contextmanager
def closing(make: Callable[[], Ends]) -> Iterator[Ends]:
    """Both ends of something, which are closed in the end."""
    ends = make()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@pytest.fixture(params=UNREAD, ids=lambda make: make.__name__)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """What a log is written to, and the end at which nobody reads."""
    with closing(request.param) as made:
        yield made


async def start_jobs(url: str, connect: Connect, number: int = JOBS) -> None:
    client = await connect(url, "websocket")
    for connid in range(number):
        again = {"connid": str(connid % 7), "time": 60, "if_running": "replace"}
        assert (await client.command("request", again))["ok"]


async def dropped(session: aiohttp.ClientSession) -> float:
    async with session.get("/metrics") as response:
        text = await response.text()
    lines = [line for line in text.splitlines() if line.startswith("hourglass_log_lines_dropped_t")]
    return float(lines[0].split()[1])


async def test_a_log_that_nobody_reads_holds_up_nobody(
    tmp_path: Path, connect: Connect, ends: Ends
) -> None:
    reading, writing = ends
    async with Logging(tmp_path / "jobs.db", writing) as server:
        await start_jobs(server.url, connect)
        async with aiohttp.ClientSession(server.url) as session:
            async with session.get("/healthz") as response:
                assert response.status == 200
            assert await dropped(session) > 0
        assert await server.terminate(PATIENCE) == 0
    assert readable(reading)  # Nobody had read it.


async def test_what_was_not_read_is_told_of_once_it_is(
    tmp_path: Path, connect: Connect, ends: Ends
) -> None:
    reading, writing = ends
    async with Logging(tmp_path / "jobs.db", writing) as server:
        await start_jobs(server.url, connect)
        async with aiohttp.ClientSession(server.url) as session:
            missing = await dropped(session)
        # For each job two lines, but for the first seven.
        expected = ["started"] * 7 + ["killed", "started"] * (JOBS - 7)
        loop = asyncio.get_running_loop()
        text, place = b"", 0
        while place < len(expected):
            text += await loop.run_in_executor(None, os.read, reading, 2**16)
            *lines, text = text.split(b"\n")
            for line in map(json.loads, lines):
                if line["logger"] == "server.monitoring.process_log":
                    number = int(line["message"].split()[0])
                    missing, place = missing - number, place + number
                else:
                    assert line["event"] == expected[place]
                    place += 1
        assert (missing, place) == (0, len(expected))
        await start_jobs(server.url, connect, 1)
        text += await loop.run_in_executor(None, os.read, reading, 2**16)
        assert json.loads(text.split(b"\n")[0])["event"] in ("killed", "started")
        assert await server.terminate(PATIENCE) == 0


async def test_a_banner_that_nobody_reads_holds_up_nobody(tmp_path: Path, connect: Connect) -> None:
    with closing(small_pipe) as (_, writing):
        os.write(writing, b"x" * SMALL)
        server = Logging(tmp_path / "jobs.db", writing)
        environ = {**server.environment(), "PORT": str(free_port())}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server"), cwd=ROOT, env=environ, stdout=writing, stderr=writing
        )
        try:
            await eventually(lambda: answers(int(environ["PORT"])))
            await start_jobs(f"http://127.0.0.1:{environ['PORT']}", connect)
            process.terminate()
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        finally:
            if process.returncode is None:
                process.kill()


async def test_why_it_cannot_start_is_said_to_nobody(tmp_path: Path) -> None:
    """A server that gives up does so, too, whoever reads why."""
    with closing(small_pipe) as (_, writing):
        os.write(writing, b"x" * SMALL)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "--database", str(tmp_path)),
            cwd=ROOT,
            env={"PORT": "0"},
            stderr=writing,
        )
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 1


async def test_a_server_without_a_log_writes_it_to_no_other_file(
    tmp_path: Path, connect: Connect
) -> None:
    async with Logging(tmp_path / "jobs.db", None) as server:
        assert os.readlink(f"/proc/{server.pid}/fd/2") == "/dev/null"
        await start_jobs(server.url, connect, 50)
        assert await server.terminate(PATIENCE) == 0


def without_reader() -> int:
    reading, writing = small_pipe()
    os.close(reading)
    return writing


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("make", [without_reader, full_disk])
async def test_a_log_that_cannot_be_written_holds_up_nobody(
    tmp_path: Path, connect: Connect, make: Callable[[], int]
) -> None:
    writing = make()
    async with Logging(tmp_path / "jobs.db", writing) as server:
        os.close(writing)
        await start_jobs(server.url, connect, 50)
        async with aiohttp.ClientSession(server.url) as session:
            assert await dropped(session) > 0
        assert await server.terminate(PATIENCE) == 0


async def test_a_log_that_others_made_non_blocking_is_waited_for(
    tmp_path: Path, connect: Connect
) -> None:
    with closing(small_pipe) as (reading, writing):
        os.set_blocking(writing, False)
        async with Logging(tmp_path / "jobs.db", writing, LOG_BUFFER=str(2**20)) as server:
            await start_jobs(server.url, connect)
            loop, text = asyncio.get_running_loop(), b""
            while text.count(b"\n") < 7 + 2 * (JOBS - 7):
                text += await loop.run_in_executor(None, os.read, reading, 2**16)
            assert b"dropped" not in text
            assert await server.terminate(PATIENCE) == 0


def test_what_one_turn_says_is_never_too_much() -> None:
    with closing(small_pipe) as (reading, writing):
        sink = Sink(writing, SMALL)
        text, told = "x" * 99 + "\n", b""
        sink.write(text * 1000)
        while len(told) < 100_000:
            told += os.read(reading, 2**16)
        sink.drain(PATIENCE)
        assert (told.decode(), sink.dropped) == (text * 1000, 0)


def test_a_sink_writes_in_order_and_tells_of_each_gap() -> None:
    with closing(small_pipe) as (reading, writing):
        sink = Sink(writing, SMALL)
        sink.notice = lambda count: f"missing {count}\n"
        text, asked = "", 0
        for _ in range(3):
            for _ in range(300):
                sink.write(f"{asked:039}\n")
                asked += 1
            told = ""
            while "missing" not in told or not told.endswith("\n"):
                told += os.read(reading, 2**16).decode()
            text += told
            sink.drain(PATIENCE)
        expected = 0
        for line in text.splitlines():
            if line.startswith("missing"):
                expected += int(line.split()[1])
            else:
                assert int(line) == expected
                expected += 1
        assert expected == asked
        assert sink.dropped > 0


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def readable(fd: int) -> bool:
    os.set_blocking(fd, False)
    with suppress(BlockingIOError):
        return len(os.read(fd, 1)) == 1
    return False
