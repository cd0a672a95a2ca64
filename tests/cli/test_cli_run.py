"""`hourglass run` with real processes: kills, limits, lost networks, restarts, output, signals."""

import asyncio
import fcntl
import hashlib
import os
import re
import signal
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from hourglass.output import Output
from hourglass.owner import Owner, Plan
from hourglass.progress.reading import reading_of
from hourglass.settings import Settings
from hourglass.tree import processes
from server.app import App
from server.contract.messages import Print
from server.core.handlers import Handler
from server.core.replies import Reply
from server.errors import UnknownRoute
from tests.conftest import Connect, Serve
from tests.support.board import ended, kill, visit
from tests.support.cli import Cli, alive
from tests.support.load import free_port
from tests.support.network import Proxy
from tests.support.servers import Clock, Process, command, eventually
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.slow

WAIT = "echo ready; sleep 60"
TREE = """
trap '' TERM
setsid bash -c 'trap "" TERM; echo $$; sleep 60; sleep 60' &
(trap '' TERM; echo $BASHPID; sleep 60; sleep 60) &
echo $$
sleep 60
sleep 60
"""
"""Three shells that ignore SIGTERM and print their ids; one of them has left the session."""


def run(url: str, script: str, *options: str, **environ: str) -> Cli:
    """A run of a shell script as the job `job`."""
    return Cli(url, "run", "--name", "job", *options, "--", "bash", "-c", script, **environ)


async def job(app: App) -> dict[str, Any]:
    (found,) = (await command(app, "status"))["jobs"]
    return found


async def last_ended(app: App) -> dict[str, Any]:
    """The last job that has ended."""
    return (await command(app, "history"))["jobs"][0]


async def pids(cli: Cli, count: int = 3) -> list[int]:
    return [int(await cli.line()) for _ in range(count)]


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7)])
async def test_the_exit_code_is_the_commands_own(app: App, script: str, code: int) -> None:
    async with run(app.url, script) as cli:
        assert await cli.end() == code
    last = await last_ended(app)
    assert last["outcome"] == ("failed" if code else "done")
    assert last["result"]["exit"] == code
    assert last["by"] == "eve"
    assert cli.stderr == b""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE])
async def test_it_dies_of_the_signal_that_the_command_died_of(
    app: App, tmp_path: Path, signum: signal.Signals
) -> None:
    async with run(app.url, f"ulimit -c 0; kill -{signum} $$") as cli:
        assert await cli.end() == -signum
    last = await last_ended(app)
    assert (last["outcome"], last["result"]["exit"]) == ("failed", 128 + signum)


async def test_output_passes_through_untouched(app: App) -> None:
    script = r"printf 'a\xff\x00\r\x1b[1mb'; printf 'c\xfe' >&2"
    async with run(app.url, script) as cli:
        assert await cli.end() == 0
    assert cli.stdout == b"a\xff\x00\r\x1b[1mb"
    assert cli.stderr == b"c\xfe"


async def test_output_to_one_place_keeps_its_order(app: App, tmp_path: Path) -> None:
    script = "for i in $(seq 500); do echo out $i; echo err $i >&2; done"
    with (tmp_path / "out").open("wb") as file:
        cli = await run(app.url, script).start(stdout=file, stderr=file)
        assert await cli.end() == 0
    expected = "".join(f"out {i}\nerr {i}\n" for i in range(1, 501))
    assert (tmp_path / "out").read_text() == expected


async def test_a_kill_ends_a_tree_that_ignores_sigterm(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", name="bo")
    async with run(app.url, TREE, "--grace", "0.3") as cli:
        processes = await pids(cli)
        assert all(map(alive, processes))
        await client.command("kill", {"connid": "job", "reason": "enough"})
        stopped = await client.event("stopped", connid="job")
        assert not any(map(alive, processes))
        assert stopped["exit"] == 137
        assert await cli.end() == 123
    assert "hourglass: killed by bo: enough\n" in cli.said


async def test_a_kill_in_the_browser_ends_a_tree_that_ignores_sigterm(
    app: App, browser: Browser
) -> None:
    async with run(app.url, TREE, "--grace", "0.3") as cli:
        processes = await pids(cli)
        page = await visit(browser, app.url)
        await kill(page, "job", "from the browser")
        assert await cli.end() == 123
        assert not any(map(alive, processes))
        await expect(ended(page, "job")).to_contain_text("from the browser")
    assert (await last_ended(app))["exit"] == 137
    assert "hourglass: killed by anonymous: from the browser\n" in cli.said


async def test_a_kill_leaves_time_to_clean_up(app: App) -> None:
    script = "trap 'echo cleaned up; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    async with run(app.url, script) as cli:
        await cli.line()
        await command(app, "kill", connid="job")
        assert await cli.end() == 123
    assert cli.stdout == b"ready\ncleaned up\n"
    assert (await last_ended(app))["exit"] == 3


async def test_a_kill_works_while_nobody_reads_the_output(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    cli, reader = await stuck(app)
    await command(app, "kill", connid="job")
    await client.event("stopped", connid="job")
    os.close(reader)
    assert await cli.end() == 123


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_run_whose_output_nobody_reads_can_be_ended(
    app: App, connect: Connect, how: signal.Signals
) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    cli, reader = await stuck(app)
    works = worker(cli)
    cli.signal(signal.SIGTERM)
    finished = await client.event("finished", connid="job")
    assert finished["result"]["exit"] == 128 + signal.SIGTERM
    assert alive(works), "what was printed may still be read"
    cli.signal(how)
    assert await cli.end() == -how
    await eventually(lambda: not alive(works))
    os.close(reader)


async def stuck(app: App) -> tuple[Cli, int]:
    """A run whose output fills a pipe that nobody reads, and the end to read from."""
    reader, writer = os.pipe()
    cli = await run(app.url, "yes", "--grace", "0.1").start(stdout=writer)
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    os.close(writer)
    await eventually(lambda: unread(reader) > size - 4096)
    return cli, reader


def unread(pipe: int) -> int:
    """Bytes that wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


async def test_what_a_command_leaves_running_lives_and_prints_on(app: App, tmp_path: Path) -> None:
    go = tmp_path / "go"
    daemon = f"until [ -e {go} ]; do sleep 0.02; done; echo out; echo err >&2; exec sleep 60"
    async with run(app.url, f"({daemon}) & echo $!") as cli:
        left = int(await cli.line())
        await eventually(lambda: not alive(cli.process.pid))
        assert (await last_ended(app))["result"] == {"exit": 0, "output": str(left)}
        go.touch()
        assert await cli.line() == "out"
        assert cli.process.stderr is not None
        assert await cli.process.stderr.readline() == b"err\n"
        assert alive(left)
        os.kill(left, signal.SIGKILL)
        assert await cli.end() == 0


async def test_the_time_limit_ends_the_command(app: App) -> None:
    async with run(app.url, TREE, "--time", "1", "--grace", "0.2") as cli:
        processes = await pids(cli)
        assert await cli.end() == 124
    assert not any(map(alive, processes))
    assert (await last_ended(app))["outcome"] == "elapsed"
    assert "hourglass: its time of 0:01 is over\n" in cli.said


async def test_the_time_limit_needs_no_server() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with run(url, TREE, "--time", "0.5", "--grace", "0.1") as cli:
        processes = await pids(cli)
        assert await cli.end() == 124
    assert not any(map(alive, processes))
    assert "cannot reach" in cli.said


WRONG_CLOCK = """
import time
right, start = time.time, time.monotonic()
time.time = lambda: right() + {hours} * 3600 * (1 if time.monotonic() - start > 0.4 else -1)
"""


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_wrong_clock_changes_nothing(app: App, tmp_path: Path, hours: int) -> None:
    """The command line's clock is off by an hour, and then set by two; the server's is right."""
    (tmp_path / "sitecustomize.py").write_text(WRONG_CLOCK.format(hours=hours))
    environ = {"PYTHONPATH": str(tmp_path)}
    async with run(app.url, "sleep 0.8; exit 5", **environ) as cli:
        assert await cli.end() == 5
    async with run(app.url, "sleep 60", "--time", "0.8", **environ) as cli:
        assert await cli.end() == 124
    assert (await last_ended(app))["outcome"] == "elapsed"


async def test_the_network_is_cut_and_the_kill_heard_of_later(app: App) -> None:
    async with Proxy(app.url) as network, run(network.url, WAIT) as cli:
        await cli.line()
        network.cut()
        await command(app, "kill", connid="job", reason="while away")
        network.mend()
        assert await cli.end() == 123
        assert "while away" in cli.said
    assert (await last_ended(app))["exit"] == 143


async def test_the_network_is_cut_and_the_end_told_later(app: App, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo ready; until [ -e {go} ]; do sleep 0.02; done; echo last words; exit 4"
    async with Proxy(app.url) as network, run(network.url, script) as cli:
        await cli.line()
        before = await job(app)
        network.cut()
        go.touch()
        await cli.line()
        network.mend()
        assert await cli.end() == 4
    last = await last_ended(app)
    assert (last["run"], last["outcome"]) == (before["run"], "failed")
    assert last["result"] == {"exit": 4, "output": "ready\nlast words"}


async def test_a_lease_lost_while_away_makes_a_new_run(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    async with Proxy(app.url) as network, run(network.url, WAIT, "--lease", "0.6") as cli:
        await cli.line()
        first = await client.event("started")
        network.cut()
        assert (await client.event("finished"))["outcome"] == "lost"
        network.mend()
        again = (await client.event("started"))["job"]
        assert again["run"] != first["job"]["run"]
        assert again["time"] < 600
        await command(app, "kill", connid="job")
        assert await cli.end() == 123


async def test_a_short_lease_is_met_by_trying_often(app: App, connect: Connect) -> None:
    """So that one that begins anew when the server is back is not lost meanwhile."""
    client = await connect(app.url, "websocket", rooms=["main"])
    async with Proxy(app.url) as network, run(network.url, WAIT, "--lease", "1") as cli:
        await cli.line()
        network.cut()
        await client.event("started")
        await eventually(lambda: network.refused >= 8)
        network.mend()
        await client.event("started")
        await command(app, "kill", connid="job")
        assert await cli.end() == 123


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_job_whose_start_was_not_answered_is_ours(app: App, when: str) -> None:
    """It is killed before the network is mended, or after the command has found its job again."""
    options = ("--patience", "0.2", "--note", "mine")
    async with (
        Proxy(app.url, mute_at=b'"started"') as network,
        run(network.url, WAIT, *options) as cli,
    ):
        await network.muted.wait()
        first = await job(app)
        await cli.line()
        network.cut()
        if when == "before":
            await command(app, "kill", connid="job")
        network.mend()
        if when == "after":
            await eventually(lambda: app.rooms.clients > 0)
            await command(app, "kill", connid="job")
        assert await cli.end() == 123
    last = await last_ended(app)
    assert (last["run"], last["exit"]) == (first["run"], 143)


async def test_the_server_is_killed_and_the_job_goes_on(tmp_path: Path, connect: Connect) -> None:
    async with Process(tmp_path / "jobs.db") as server:
        async with run(server.url, WAIT) as cli:
            await cli.line()
            client = await connect(server.url, "http")
            (before,) = (await client.command("status"))["jobs"]
            await server.kill()
            await server.start()
            client = await connect(server.url, "http")
            assert (await client.command("kill", {"connid": "job"}))["job"]["run"] == before["run"]
            assert await cli.end() == 123
        (last,) = (await client.command("history"))["jobs"]
        assert (last["run"], last["exit"]) == (before["run"], 143)


async def test_a_server_that_lost_its_jobs_gets_a_new_run(connect: Connect) -> None:
    async with Process(Path(":memory:")) as server, run(server.url, WAIT) as cli:
        await cli.line()
        client = await connect(server.url, "http")
        (before,) = (await client.command("status"))["jobs"]
        await server.kill()
        await server.start()
        client = await connect(server.url, "websocket", rooms=["main"])
        after = await running(client)
        assert after["run"] != before["run"]
        assert after["time"] < 600
        await client.command("kill", {"connid": "job"})
        assert await cli.end() == 123


async def running(client: Any) -> dict[str, Any]:
    """The job, from a snapshot or as soon as it starts."""

    def find(events: list[Any]) -> Any:
        for name, body in events:
            if name == "started":
                return body["job"]
            if name == "snapshot" and body["running"]:
                return body["running"][0]
        return None

    return await client.until(find)


async def test_the_server_is_away_at_the_start(tmp_path: Path, connect: Connect) -> None:
    server = Process(tmp_path / "jobs.db")
    server.port = free_port()
    async with run(server.url, WAIT) as cli:
        await cli.line()
        async with server:
            client = await connect(server.url, "websocket", rooms=["main"])
            found = await running(client)
            assert found["time"] < 600
            await client.command("kill", {"connid": "job"})
            assert await cli.end() == 123
    assert "cannot reach" in cli.said and "the job is on the server" in cli.said


async def test_a_command_that_ended_without_the_server_is_in_the_history(
    tmp_path: Path, connect: Connect
) -> None:
    go = tmp_path / "go"
    server = Process(tmp_path / "jobs.db")
    server.port = free_port()
    async with run(
        server.url, f"echo ready; until [ -e {go} ]; do sleep 0.02; done; exit 3"
    ) as cli:
        await cli.line()
        cli.signal(signal.SIGSTOP)
        os.kill(worker(cli), signal.SIGSTOP)
        async with server:
            go.touch()
            os.kill(worker(cli), signal.SIGCONT)
            cli.signal(signal.SIGCONT)
            assert await cli.end() == 3
            client = await connect(server.url, "http")
            (last,) = (await client.command("history"))["jobs"]
            assert (last["outcome"], last["result"]["exit"]) == ("failed", 3)


async def test_a_command_ends_though_its_server_does_not_come_back() -> None:
    app_url = f"http://127.0.0.1:{free_port()}"
    async with run(app_url, "echo done") as cli:
        assert await cli.end() == 0
    assert cli.stdout == b"done\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signals_are_passed_on(app: App, signum: signal.Signals) -> None:
    async with run(app.url, "echo ready; exec sleep 60") as cli:
        await cli.line()
        cli.signal(signum)
        assert await cli.end() == -signum
    last = await last_ended(app)
    assert (last["outcome"], last["result"]["exit"]) == ("failed", 128 + signum)


async def test_what_was_ignored_stays_so(app: App) -> None:
    """As SIGHUP under nohup."""
    cli = run(app.url, "echo ready; exec sleep 60")
    await cli.start(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    await cli.line()
    cli.signal(signal.SIGHUP)
    cli.signal(signal.SIGINT)
    assert await cli.end() == -signal.SIGINT


async def test_a_command_may_take_ctrl_c_as_it_likes(app: App) -> None:
    script = "trap 'echo caught; exit 0' INT; echo ready; while :; do sleep 0.02; done"
    async with run(app.url, script) as cli:
        await cli.line()
        cli.signal(signal.SIGINT)
        assert await cli.end() == 0
    assert (await last_ended(app))["outcome"] == "done"


async def test_sigterm_ends_what_ignores_it(app: App) -> None:
    async with run(app.url, TREE, "--grace", "0.2") as cli:
        processes = await pids(cli)
        cli.signal(signal.SIGTERM)
        assert await cli.end() == -signal.SIGKILL
    assert not any(map(alive, processes))


async def test_more_time_moves_the_limit_of_a_command(app: App, connect: Connect) -> None:
    async with run(app.url, "echo begun; sleep 60", "--time", "1.5") as cli:
        assert await cli.line() == "begun"
        started_at = (await job(app))["started_at"]
        assert (await command(app, "extend", connid="job", time=1.5))["ok"]
        await eventually(lambda: app.store.now() > started_at + 2.2)
        assert (await job(app))["time"] == 3
        assert await cli.end() == 124
    assert b"its time of 0:03 is over" in cli.stderr
    assert (await last_ended(app))["ended_at"] >= started_at + 3


async def test_the_lease_is_renewed_and_the_job_ends_with_the_worker(
    app: App, connect: Connect
) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    async with run(app.url, TREE, "--lease", "2", "--grace", "0.2") as cli:
        processes = await pids(cli)
        board = await app.store.board("main")
        started_at = board.running["job"].started_at
        await eventually(lambda: app.store.now() > started_at + 2.5)
        assert "job" in board.running
        os.kill(worker(cli), signal.SIGKILL)
        assert await cli.end() == 137
        assert not any(map(alive, processes))
        finished = await client.event("finished")
        assert (finished["outcome"], finished["result"]["exit"]) == ("failed", 137)


async def test_a_kill_of_the_wrapper_itself_ends_the_tree(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    async with run(app.url, TREE, "--grace", "0.2") as cli:
        processes = await pids(cli)
        cli.process.kill()
        finished = await client.event("finished")
        assert (finished["outcome"], finished["result"]["exit"]) == ("failed", 137)
        assert not any(map(alive, processes))


async def test_the_guard_ends_a_command_that_nobody_hands_to_it(app: App, tmp_path: Path) -> None:
    """As on macOS, where what loses its parent is no child of ours."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['ctypes'] = None")
    script = "trap '' TERM; (echo $BASHPID; sleep 60; sleep 60) & echo $$; sleep 60; sleep 60"
    async with run(app.url, script, "--grace", "0.2", PYTHONPATH=str(tmp_path)) as cli:
        processes = await pids(cli, 2)
        os.kill(worker(cli), signal.SIGKILL)
        assert await cli.end() == 137
        assert not any(map(alive, processes))


def worker(cli: Cli) -> int:
    """The process that does the work of a run, below the one that guards it."""
    found = [pid for pid, one in processes().items() if one.parent == cli.process.pid]
    # The witness, which is no worker, is in the group of its guard.
    (work,) = (pid for pid in found if os.getpgid(pid) == pid)
    return work


@pytest.mark.parametrize(("if_running", "code"), [("reject", 122), ("keep", 0)])
async def test_a_command_whose_name_is_taken_does_not_run(
    app: App, if_running: str, code: int
) -> None:
    await command(app, "request", connid="job", time=60)
    async with run(app.url, "echo ran", "--if-running", if_running) as cli:
        assert await cli.end() == code
    assert cli.stdout == b""
    assert cli.said == "hourglass: not run: job is running already, started by ana\n"


async def test_a_command_that_runs_goes_on_though_its_name_is_taken(app: App) -> None:
    """Its patience was over before the server said so."""
    await command(app, "request", connid="job", time=60)
    script = "for i in $(seq 10); do sleep 0.1; done; echo ran; exit 9"
    async with run(app.url, script, "--patience", "0") as cli:
        assert await cli.end() == 9
    assert cli.stdout == b"ran\n"
    assert "job is running already, started by ana; the command runs on" in cli.said


async def test_a_run_can_replace_another(app: App) -> None:
    async with run(app.url, WAIT) as first:
        await first.line()
        async with run(app.url, "echo second", "--if-running", "replace") as second:
            assert await second.end() == 0
        assert await first.end() == 123
    assert first.said == "hourglass: killed by eve: replaced\n"


async def test_a_command_that_may_not_be_a_job_does_not_run(serve: Serve) -> None:
    app = await serve(auth_secret=SECRET)
    for claims, words in [(None, "token required"), ({"role": "viewer"}, "requires the role")]:
        environ = {"HOURGLASS_TOKEN": token(**claims)} if claims else {}
        async with run(app.url, "echo ran", **environ) as cli:
            assert await cli.end() == 125
        assert cli.stdout == b"" and words in cli.said
    async with run(app.url, "echo ran", HOURGLASS_TOKEN=token(sub="tea")) as cli:
        assert await cli.end() == 0
    assert (await last_ended(app))["by"] == "tea"


async def test_a_run_that_outlasts_its_token_takes_a_newer_one(
    serve: Serve, tmp_path: Path
) -> None:
    date = Clock(time.time())
    app = await serve(auth_secret=SECRET, now=date)
    file = tmp_path / "hourglass.toml"
    file.write_text(f'token = "{token(exp=time.time() + 600)}"')
    async with run(app.url, WAIT, XDG_CONFIG_HOME=str(tmp_path)) as cli:
        await cli.line()
        file.write_text(f'token = "{token()}"')
        date.set_by += 601
        await eventually(lambda: app.rooms.clients == 0)
        await command(app, "kill", connid="job")
        assert await cli.end() == 123


@pytest.mark.parametrize(("name", "code"), [("no-such-command", 127), ("/etc/passwd", 126)])
async def test_a_command_that_cannot_run_is_a_failed_job(app: App, name: str, code: int) -> None:
    async with Cli(app.url, "run", "--", name) as cli:
        assert await cli.end() == code
    assert name in cli.said
    last = await last_ended(app)
    assert (last["connid"], last["result"]["exit"]) == (Path(name).name, code)


async def test_lines_become_progress(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    script = "echo 'progress: 40% tables 12/30'; read; printf '\\rprogress: 24/30'; read"
    cli = await run(app.url, script).start(stdin=asyncio.subprocess.PIPE)
    assert cli.process.stdin is not None
    report = await client.event("progress", done=0.4)
    assert report["note"] == "tables 12/30"
    cli.process.stdin.write(b"\n")
    assert await client.event("progress", done=0.8)
    assert await cli.end() == 1


async def test_the_last_progress_is_told_though_the_command_ends(
    app: App, connect: Connect
) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    async with run(app.url, "printf 'progress: 1/2\rprogress: 2/2'") as cli:
        assert await cli.end() == 0
    await client.event("progress", done=1.0)
    await client.event("finished")


async def test_what_is_read_while_the_server_is_slow_is_the_last_progress(app: App) -> None:
    handlers = app.commands._handlers._by_type
    take = handlers[Print].run
    assert take is not None
    asked, released = asyncio.Event(), asyncio.Event()

    async def hold(caller: Any, payload: Any) -> Reply:
        asked.set()
        await released.wait()
        return await take(caller, payload)

    handlers[Print] = Handler(writes=True, run=hold)
    output = Output(reading_of("auto", ""))
    settings = Settings.load({"url": app.url}, {})
    owner = Owner(settings, Plan("job", 60), output, print)
    await owner.admitted
    printed = output.channel()
    printed("progress: 1/4\n")
    await asked.wait()
    printed("progress: 4/4\n")
    reported = asyncio.create_task(owner.report({"exit": 0, "output": ""}, 20))
    await asyncio.sleep(0)  # Now it has the result.
    released.set()
    assert await reported
    await owner.close()
    assert (await last_ended(app))["progress"]["done"] == 1.0


async def test_python_prints_its_progress_at_once(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    script = f"{sys.executable} -c 'print(\"progress: 1/4\"); input()'"
    cli = run(app.url, script)
    cli._environ.pop("PYTHONUNBUFFERED", None)
    await cli.start(stdin=asyncio.subprocess.PIPE)
    assert await client.event("progress", done=0.25)
    assert await cli.end() == 1


async def test_a_setting_of_the_user_goes_before_ours(app: App) -> None:
    async with run(app.url, "echo $PYTHONUNBUFFERED.", PYTHONUNBUFFERED="") as cli:
        assert await cli.end() == 0
    assert cli.stdout == b".\n"


async def test_a_progress_of_none_is_an_option(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    async with run(app.url, "echo 'progress: 1/4'", "--progress", "none") as cli:
        assert await cli.end() == 0
    await client.event("finished")
    told = [body for name, body in client.events if name == "progress"]
    assert all(body["done"] is None for body in told)


async def test_the_pattern_of_progress_is_an_option(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    pattern = r"step (?P<done>\d) of (?P<total>\d): (?P<note>.*)"
    async with run(app.url, "echo step 1 of 4: read; sleep 60", "--progress", pattern) as cli:
        assert (await client.event("progress", done=0.25))["note"] == "read"
        cli.signal(signal.SIGINT)
        await cli.end()


async def test_a_reader_that_has_enough_ends_the_command(app: App) -> None:
    reader, writer = os.pipe()
    cli = await run(app.url, "yes").start(stdout=writer)
    os.close(writer)
    assert await asyncio.to_thread(os.read, reader, 2) == b"y\n"
    os.close(reader)
    assert await cli.end() == -signal.SIGPIPE


HUNDRED_MB = """
import sys
block = bytes(range(256)) * 256
for number in range(1600):
    sys.stdout.buffer.write(number.to_bytes(8, "big") + block[8:])
print("end", file=sys.stderr)
sys.stdin.read()
"""


async def test_a_hundred_megabytes_pass_in_little_memory(app: App) -> None:
    args = ["run", "--name", "job", "--", sys.executable, "-c", HUNDRED_MB]
    cli = await Cli(app.url, *args).start(stdin=asyncio.subprocess.PIPE)
    assert cli.process.stdout is not None and cli.process.stdin is not None
    digest, size, first = hashlib.sha256(), 0, 0
    while size < 1600 * 65_536:
        data = await cli.process.stdout.read(65_536)
        assert data
        digest.update(data)
        size += len(data)
        first = first or peak(worker(cli))
    grown = peak(worker(cli)) - first
    cli.process.stdin.close()
    assert await cli.end() == 0
    block = bytes(range(256)) * 256
    expected = hashlib.sha256()
    for number in range(1600):
        expected.update(number.to_bytes(8, "big") + block[8:])
    assert (size, digest.digest()) == (1600 * 65_536, expected.digest())
    print(f"from {first} kB by {grown} kB")
    assert grown < 10_000


def peak(pid: int) -> int:
    """The most memory that a process had so far, in kB."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


async def test_who_watches_the_job_sees_its_output(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=[])
    await client.command("join", {"room": "main", "connid": "job"})
    script = r"printf 'caf\303'; read; printf '\251 \xff\n'; read; echo no >&2; read"
    cli = await run(app.url, script).start(stdin=asyncio.subprocess.PIPE)
    assert cli.process.stdin is not None
    first = await client.event("output")
    assert (first["offset"], first["text"]) == (0, "caf")
    cli.process.stdin.write(b"\n")
    second = await client.event("output")
    assert (second["offset"], second["text"]) == (3, "é \ufffd\n")
    cli.process.stdin.write(b"\n")
    assert (await client.event("output"))["text"] == "no\n"
    assert await cli.end() == 1
    joined = await client.command("join", {"room": "main", "connid": "job"})
    assert joined["output"] == {"offset": 0, "text": "café \ufffd\nno\n"}
    assert cli.stdout == b"caf\xc3\xa9 \xff\n"


async def test_a_flood_of_output_is_shown_in_part(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=[])
    async with run(app.url, "echo begin; seq 1000000; echo end") as cli:
        assert await cli.end() == 0
    joined = await client.command("join", {"room": "main", "connid": "job"})
    text = joined["output"]["text"]
    assert text.startswith("begin\n1\n2\n") and text.endswith("\n999999\n1000000\nend\n")
    assert re.search(r"\n… \d\.\d MB not shown …\n", text)
    assert len(text) < 65_536


async def test_a_server_that_takes_no_output_is_sent_no_more(app: App) -> None:
    """An older one, or one whose token does not allow it."""
    sent = []

    async def refuse(caller: Any, payload: Any) -> Reply:
        sent.append(payload.text)
        raise UnknownRoute("unknown command 'output'")

    app.commands._handlers._by_type[Print] = Handler(writes=True, run=refuse)
    async with run(app.url, "echo 1; sleep 0.5; echo 2; sleep 0.5; echo 3") as cli:
        assert await cli.end() == 0
    assert sent == ["1\n"]
    assert (await last_ended(app))["outcome"] == "done"
