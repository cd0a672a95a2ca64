"""How `hourglass run` ends a command: what is signalled, how often, and what is told of it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hourglass.tree import processes
from server.app import App
from tests.conftest import Connect
from tests.support.cli import Cli, alive
from tests.support.network import Proxy
from tests.support.servers import command, eventually

pytestmark = pytest.mark.slow

COUNTER = """
import signal, sys, time
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
print("ready", flush=True)
while not heard:
    time.sleep(0.01)
time.sleep(0.6)
print(len(heard), flush=True)
"""
"""Says how many SIGTERMs it is sent within a while after the first."""
ONLY_THREADS = """
import ctypes, os, threading, time

def work():
    print(os.getpid(), flush=True)
    time.sleep(60)
threading.Thread(target=work).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""
"""Its first thread ends, and another one goes on."""


def python(url: str, script: str, *options: str, **more: Any) -> Cli:
    """A run of a Python script as the job `job`."""
    return Cli(url, "run", "--name", "job", *options, "--", sys.executable, "-c", script, **more)


def shell(url: str, script: str, *options: str, **more: Any) -> Cli:
    return Cli(url, "run", "--name", "job", *options, "--", "bash", "-c", script, **more)


async def last_ended(app: App) -> dict[str, Any]:
    return (await command(app, "history"))["jobs"][0]


def below(pid: int) -> list[int]:
    """A process and all below it, the eldest first."""
    found = [pid]
    for one in found:
        found += [child for child, process in processes().items() if process.parent == one]
    return found


async def test_a_process_whose_first_thread_has_ended_is_alive(app: App) -> None:
    async with python(app.url, ONLY_THREADS) as cli:
        pid = int(await cli.line())
        await eventually(lambda: not alive(pid))  # It looks like a zombie.
        assert pid in processes()
        await command(app, "kill", connid="job")
        assert await cli.end() == 123
    assert pid not in processes()
    assert (await last_ended(app))["exit"] == 143


@pytest.mark.parametrize("how", ["board", "run", "group", "everyone", "worker", "time"])
async def test_one_wish_is_one_signal(app: App, how: str) -> None:
    options = ["--time", "2"] if how == "time" else []
    cli = await python(app.url, COUNTER, *options).start()
    await cli.line()
    guard = cli.process.pid
    if how == "board":
        await command(app, "kill", connid="job")
    elif how == "run":
        cli.signal(signal.SIGTERM)
    elif how == "group":
        os.killpg(guard, signal.SIGTERM)
    elif how == "everyone":
        for pid in below(guard):
            os.kill(pid, signal.SIGTERM)
    elif how == "worker":
        (worker,) = (pid for pid in below(guard)[1:] if os.getpgid(pid) == pid)
        os.kill(worker, signal.SIGTERM)
    assert await cli.line() == "1"
    assert await cli.end() == {"board": 123, "time": 124}.get(how, 0)


async def test_a_second_wish_is_a_second_signal(app: App) -> None:
    async with python(app.url, COUNTER) as cli:
        await cli.line()
        await command(app, "kill", connid="job")
        await eventually(lambda: cli.process.returncode is None)
        await asyncio.sleep(0.1)
        cli.signal(signal.SIGTERM)
        assert await cli.line() == "2"


async def test_a_clean_up_that_takes_other_programs_is_not_disturbed(app: App) -> None:
    script = "trap 'sleep 0.3; echo clean; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    async with shell(app.url, script) as cli:
        await cli.line()
        await command(app, "kill", connid="job")
        assert await cli.end() == 123
    assert cli.stdout == b"ready\nclean\n"


@asynccontextmanager
async def without_the_right_to_kill(app: App, *options: str) -> AsyncIterator[tuple[Cli, int]]:
    """A run whose command is another user's, and may not be signalled; with its process."""
    cli = shell(app.url, "echo $$; exec sleep 60", *options)
    cli.argv[:0] = ["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"]
    cli.argv[-3:-3] = ["setpriv", "--reuid=65534", "--clear-groups"]
    await cli.start()
    pid = int(await cli.line())
    try:
        yield cli, pid
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
        await cli.end()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have processes of two users")
async def test_what_may_not_be_ended_is_said_and_can_be_left(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=[])
    await client.command("join", {"room": "main", "connid": "job"})
    async with without_the_right_to_kill(app, "--grace", "0.2") as (cli, pid):
        await command(app, "kill", connid="job")
        told = f"sleep (process {pid}, of nobody) may not be ended by root, and goes on"
        while told not in (await client.event("output"))["text"]:
            pass
        worker = next(one for one in below(cli.process.pid)[1:] if os.getpgid(one) == one)
        used = ticks(worker)
        await asyncio.sleep(2)
        assert ticks(worker) - used <= 10, "it waits without looking all the time"
        assert (await last_ended(app))["stopped_at"] is None
        cli.signal(signal.SIGTERM)
        assert await asyncio.wait_for(cli.process.wait(), 10) == 123
        assert alive(pid)
        assert (await last_ended(app))["stopped_at"] is None
    assert told in cli.said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have processes of two users")
async def test_what_may_not_be_ended_is_told_once_it_ends(app: App) -> None:
    async with without_the_right_to_kill(app, "--grace", "0.2") as (cli, pid):
        await command(app, "kill", connid="job")
        assert cli.process.stderr is not None
        while b"goes on" not in await cli.process.stderr.readline():
            pass
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(cli.process.wait(), 10) == 123
    assert (await last_ended(app))["exit"] == 137


def ticks(pid: int) -> int:
    """Hundredths of a second of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize(("how", "code"), [("kill", 123), ("time", 124)])
async def test_an_end_by_others_tells_as_much_as_ones_own(app: App, how: str, code: int) -> None:
    script = "trap 'echo last words; exit 3' TERM; echo ready; while :; do sleep 0.02; done"
    options = ["--time", "1.5"] if how == "time" else []
    async with shell(app.url, script, *options) as cli:
        await cli.line()
        if how == "kill":
            await command(app, "kill", connid="job")
        assert await cli.end() == code
    last = await last_ended(app)
    assert last["exit"] == 3
    assert last["stopped_at"] >= last["ended_at"]
    printed = await app.store.printed("main", last["run"])
    assert printed is not None and "last words\n" in printed.text


async def test_a_worker_that_is_killed_ends_its_job_at_once(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    async with shell(app.url, "echo ready; sleep 60") as cli:
        await cli.line()
        (worker,) = (pid for pid in below(cli.process.pid)[1:] if os.getpgid(pid) == pid)
        os.kill(worker, signal.SIGKILL)
        finished = await client.event("finished")
        assert (finished["outcome"], finished["result"]["exit"]) == ("failed", 137)
        assert await cli.end() == 137


async def test_an_end_during_an_outage_is_told_after_it(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    script = "echo ready; read; echo last words; exit 0"
    options = ("--lease", "0.6", "--patience", "0.5")
    async with Proxy(app.url) as network:
        cli = await shell(network.url, script, *options).start(stdin=asyncio.subprocess.PIPE)
        await cli.line()
        await client.event("started")
        network.cut()
        assert cli.process.stdin is not None
        cli.process.stdin.write(b"\n")
        assert await cli.end() == 0, "nobody is held up"
        assert (await client.event("finished"))["outcome"] == "lost"
        network.mend()
        amended = await client.event("amended")
    assert amended["outcome"] == "done"
    assert amended["result"] == {"exit": 0, "output": "ready\nlast words"}


async def test_who_comes_late_does_not_replace_who_came_meanwhile(app: App) -> None:
    options = ("--if-running", "replace", "--lease", "0.6")
    async with Proxy(app.url) as network, shell(network.url, "echo; read", *options) as late:
        await late.line()
        network.cut()
        await eventually(lambda: app.rooms.clients == 0)
        await command(app, "kill", connid="job")
        newer = (await command(app, "request", connid="job", time=60))["job"]
        network.mend()
        await late.end()
    (running,) = (await command(app, "status"))["jobs"]
    assert running["run"] == newer["run"]


@pytest.mark.parametrize("when", ["older", "newer"])
async def test_who_could_not_ask_at_the_start_replaces_only_what_was_there(
    app: App, when: str
) -> None:
    if when == "older":
        await command(app, "request", connid="job", time=60)
    async with Proxy(app.url) as network:
        network.cut()
        options = ("--if-running", "replace", "--patience", "0")
        async with shell(network.url, "echo ready; sleep 60", *options) as cli:
            await cli.line()
            if when == "newer":
                await command(app, "request", connid="job", time=60)
            await eventually(lambda: network.refused > 0)
            network.mend()
            assert cli.process.stderr is not None
            said = "the job is on the server" if when == "older" else "is running already"
            async with asyncio.timeout(10):
                while said not in (line := await cli.process.stderr.readline()).decode():
                    assert line
            (running,) = (await command(app, "status"))["jobs"]
            assert running["by"] == ("eve" if when == "older" else "ana")
    if when == "older":
        ended = (await command(app, "history"))["jobs"]
        assert "replaced" in [job["reason"] for job in ended]


async def test_a_run_begins_when_the_one_that_it_replaces_has_stopped(
    app: App, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    first = (
        f"trap 'sleep 0.5; echo stopped >> {log}; exit' TERM; echo; while :; do sleep 0.02; done"
    )
    async with shell(app.url, first) as old:
        await old.line()
        async with shell(app.url, f"echo begun >> {log}", "--if-running", "replace") as new:
            assert await new.end() == 0
        assert await old.end() == 123
    assert log.read_text() == "stopped\nbegun\n"


async def test_a_run_that_is_replaced_and_says_nothing_is_given_the_grace(app: App) -> None:
    await command(app, "request", connid="job", time=60)
    options = ("--if-running", "replace", "--grace", "0.5")
    async with shell(app.url, "echo begun", *options) as cli:
        assert await cli.end() == 0
    assert cli.stdout == b"begun\n"
