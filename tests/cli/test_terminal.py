"""`run` on a terminal: the command has one too, and ours is left as it was."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from server.app import App
from tests.conftest import Connect
from tests.support.cli import HOURGLASS, PATIENCE, Cli, alive
from tests.support.servers import command, eventually
from tests.support.terminal import Screen

pytestmark = pytest.mark.slow

HOURGLASS_COMMAND = f"{shlex.quote(sys.executable)} {shlex.quote(str(HOURGLASS))}"
ASKS = r"""
import os, select, sys, termios, tty

fd = os.open("/dev/tty", os.O_RDWR)
tty.setcbreak(fd)
os.write(fd, sys.argv[1].encode().decode("unicode_escape").encode())
answer = b""
while not answer.endswith(sys.argv[2].encode()) and select.select([fd], [], [], 5)[0]:
    answer += os.read(fd, 100)
print(answer)
"""


@pytest.fixture
async def screen() -> AsyncIterator[Screen]:
    found = Screen()
    yield found
    found.close()


def run(app: App, script: str, *options: str, **environ: str) -> Cli:
    return Cli(app.url, "run", "--name", "job", *options, "--", "bash", "-c", script, **environ)


async def test_on_a_terminal_the_command_has_one(app: App, screen: Screen) -> None:
    before = screen.modes
    script = "test -t 0 -a -t 1 -a -t 2 && tput cols; printf '\\e[32mgreen\\e[0m'; exit 3"
    cli = await screen.start(run(app, script, TERM="xterm-256color"))
    assert await cli.end() == 3
    await screen.until("80\r\n\x1b[32mgreen\x1b[0m")
    assert screen.modes == before


@pytest.mark.parametrize("redirected", ["stdin", "stdout", "stderr"])
async def test_where_something_is_redirected_it_has_none(
    app: App, screen: Screen, redirected: str
) -> None:
    fds: dict[str, int] = dict.fromkeys(("stdin", "stdout", "stderr"), screen.slave)
    fds[redirected] = asyncio.subprocess.DEVNULL
    cli = await run(app, "test -t 1 -o -t 2 && exit 5; exit 6").start(**fds)
    assert await cli.end() == 6


async def test_a_terminal_can_be_had_and_refused(app: App, screen: Screen) -> None:
    async with run(app, "test -t 1 && echo there; test -t 0 || exit 4", "--pty") as cli:
        assert await cli.end() == 4
    assert cli.stdout == b"there\r\n"
    cli = await screen.start(run(app, "test -t 1", "--no-pty"))
    assert await cli.end() == 1


async def test_what_is_typed_reaches_the_command(app: App, screen: Screen) -> None:
    cli = await screen.start(run(app, "read -p 'name? ' x; echo hello $x; cat"))
    await screen.until("name? ")
    screen.type("ana\r")
    await screen.until("hello ana")
    screen.type("more\r\x04")
    await screen.until("more\r\nmore")
    assert await cli.end() == 0


async def test_a_password_is_asked_for_on_dev_tty_and_not_shown(app: App, screen: Screen) -> None:
    script = "read -rs -p 'password: ' x </dev/tty 2>/dev/tty; echo; echo ${#x} letters"
    cli = await screen.start(run(app, script))
    await screen.until("password: ")
    screen.type("secret\r")
    await screen.until("6 letters")
    assert b"secret" not in screen.shown
    assert await cli.end() == 0


async def test_its_size_is_passed_on_and_each_change(app: App, screen: Screen) -> None:
    screen.resize(30, 100)
    script = "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    cli = await screen.start(run(app, script))
    await screen.until("30 100")
    await screen.until("ready")
    screen.resize(40, 120)
    await screen.until("40 120")
    assert await cli.end() == 0


async def test_ctrl_c_ends_the_command(app: App, screen: Screen) -> None:
    before = screen.modes
    cli = await screen.start(run(app, "echo ready; exec sleep 60"))
    await screen.until("ready")
    screen.type("\x03")
    assert await cli.end() in (128 + signal.SIGINT, -signal.SIGINT)
    assert screen.modes == before


async def test_a_kill_ends_it_and_leaves_our_terminal_as_it_was(app: App, screen: Screen) -> None:
    before = screen.modes
    cli = await screen.start(
        run(app, "trap '' TERM; echo ready; sleep 60; sleep 60", "--grace", "0.2")
    )
    await screen.until("ready")
    await eventually(lambda: screen.is_raw)
    await command(app, "kill", connid="job", reason="enough")
    assert await cli.end() == 123
    await screen.until("hourglass: killed by ana: enough\r\n")
    assert screen.modes == before


@pytest.mark.parametrize("whom", ["guard", "worker"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_our_terminal_is_restored_whoever_dies(
    app: App, screen: Screen, whom: str, how: signal.Signals
) -> None:
    before = screen.modes
    cli = await screen.start(run(app, "echo $PPID; sleep 60; sleep 60", "--grace", "0.2"))
    await eventually(lambda: screen.is_raw)
    await eventually(lambda: b"\r\n" in screen.shown)
    worker = int(screen.shown.split()[0])
    os.kill(worker if whom == "worker" else cli.process.pid, how)
    await cli.end()
    await eventually(lambda: screen.modes == before)
    await eventually(lambda: not alive(worker))


async def test_ctrl_z_and_fg_as_without_run(app: App, screen: Screen) -> None:
    shell = await screen.shell(app.url)
    script = """echo re''ady; for i in 1 2 3 4; do read -t 60 x && echo "got $x"; done"""
    screen.type(f"{HOURGLASS_COMMAND} run --name job -- bash -c {shlex.quote(script)}\r")
    await screen.until("ready")
    screen.type("one\r")
    await screen.until("got one")
    screen.type("\x1a")
    await screen.until("Stopped")
    screen.type("echo $((40 + 2))\r")
    await screen.until("\n42")
    screen.type("fg\r")
    await eventually(lambda: screen.is_raw)
    screen.type("two\r")
    await screen.until("got two")
    screen.type("\x1a")
    await screen.until("Stopped")
    screen.type("bg\r")
    screen.type("echo $((50 + 2))\r")
    await screen.until("\n52")
    await command(app, "kill", connid="job")
    screen.type("wait; echo $((60 + 2))\r")
    await screen.until("\n62")
    screen.type("exit\r")
    await asyncio.wait_for(shell.wait(), PATIENCE)


@pytest.mark.parametrize(
    ("query", "end", "answer"),
    [
        (r"\x1b[c", "c", r"b'\x1b[?1;2c'"),
        (r"\x1b[6n", "R", r"b'\x1b[1;1R'"),
        (r"\x1b[18t", "t", r"b'\x1b[8;24;80t'"),
        (r"\x1b]11;?\x07", "\\", r"b'\x1b]11;rgb:0000/0000/0000\x1b\\'"),
        (r"\x1b[?2026$p", "y", r"b'\x1b[?2026;0$y'"),
    ],
)
async def test_queries_are_answered_where_nobody_else_does(
    app: App, query: str, end: str, answer: str
) -> None:
    args = ("run", "--pty", "--", sys.executable, "-c", ASKS, query, end)
    async with Cli(app.url, *args) as cli:
        assert await cli.end() == 0
    assert answer in cli.stdout.decode()


async def test_progress_that_is_shown_on_a_terminal_alone_is_read(
    app: App, connect: Connect
) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    script = "import rich.progress, time; list(map(time.sleep, rich.progress.track([0.1] * 20)))"
    async with Cli(app.url, "run", "--pty", "--", sys.executable, "-c", script) as cli:
        assert await cli.end() == 0
    await client.event("finished")
    told = [body["done"] for name, body in client.events if name == "progress" and body["done"]]
    assert len(told) > 1 and told == sorted(told) and told[-1] == 1


@pytest.mark.parametrize(("name", "code"), [("no-such-command", 127), ("/etc/passwd", 126)])
async def test_a_command_that_cannot_run_says_so(app: App, name: str, code: int) -> None:
    async with Cli(app.url, "run", "--pty", "--", name) as cli:
        assert await cli.end() == code
    assert name in cli.said
