"""What `run` does around a command, and for a process that runs already."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from server.app import App
from tests.support.cli import HOURGLASS, Cli, alive
from tests.support.clients import PATIENCE
from tests.support.servers import ROOT, command

pytestmark = pytest.mark.slow

FAILS_ONCE = "echo tries; test -e ran || { touch ran; exit 7; }"


async def running(app: App) -> dict[str, Any]:
    """The one job that runs, as soon as it does."""
    async with asyncio.timeout(PATIENCE):
        while not (jobs := (await command(app, "status"))["jobs"]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return jobs[0]


async def ended(app: App) -> list[dict[str, object]]:
    return list(reversed((await command(app, "history"))["jobs"]))


async def test_what_fails_is_tried_again_as_a_job_of_its_own(app: App, tmp_path: Path) -> None:
    retry = ("--retry", "3", "--", "sh", "-c", FAILS_ONCE)
    cli = await Cli(app.url, "run", "--name", "job", *retry).start(cwd=tmp_path)
    assert await cli.end() == 0
    assert cli.stdout == b"tries\ntries\n"
    assert "hourglass: exit code 7; attempt 2 of 4 in 1 s\n" in cli.said
    assert [(job["connid"], job["outcome"]) for job in await ended(app)] == [
        ("job", "failed"),
        ("job", "done"),
    ]


async def test_what_goes_on_to_fail_is_tried_no_more_than_asked(app: App) -> None:
    async with Cli(app.url, "run", "--retry", "1", "--", "sh", "-c", "exit 9") as cli:
        assert await cli.end() == 9
    assert len(await ended(app)) == 2


@pytest.mark.parametrize("what", ["killed", "over", "missing"])
async def test_what_was_ended_or_cannot_run_is_not_tried_again(app: App, what: str) -> None:
    argv = ("no-such-program",) if what == "missing" else ("sleep", "60")
    limit = "0.3" if what == "over" else "60"
    options = ("--name", "job", "--retry", "3", "--time", limit)
    async with Cli(app.url, "run", *options, "--", *argv) as cli:
        if what == "killed":
            await running(app)
            await command(app, "kill", connid="job")
        assert await cli.end() == {"killed": 123, "over": 124, "missing": 127}[what]
    assert len(await ended(app)) == 1
    assert "attempt" not in cli.said


async def test_a_signal_ends_the_wait_for_the_next_attempt(app: App) -> None:
    async with Cli(app.url, "run", "--retry", "9", "--", "sh", "-c", "exit 9") as cli:
        assert cli.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            cli.stderr = await cli.process.stderr.readline()
        cli.signal(signal.SIGTERM)
        assert await cli.end() == -signal.SIGTERM
    assert len(await ended(app)) == 1


@pytest.mark.parametrize(("code", "shown"), [(0, b""), (3, b"out\nerr\nend\n")])
async def test_what_was_printed_is_shown_only_after_a_failure(
    app: App, code: int, shown: bytes
) -> None:
    script = f"echo out; echo err >&2; echo end; exit {code}"
    async with Cli(app.url, "run", "--quiet-ok", "--", "sh", "-c", script) as cli:
        assert await cli.end() == code
    assert (cli.stdout, cli.stderr) == (shown, b"")
    (job,) = (await command(app, "history"))["jobs"]
    assert job["result"]["output"] == "out\nerr\nend"


@pytest.mark.parametrize(("script", "said"), [("exit 3", b"failed with 3\n"), ("exit 0", b"")])
async def test_a_failure_is_followed_by_a_command(app: App, script: str, said: bytes) -> None:
    on_fail = ("--on-fail", "echo failed with $HOURGLASS_EXIT")
    async with Cli(app.url, "run", *on_fail, "--", "sh", "-c", script) as cli:
        assert await cli.end() == int(script.split()[1])
    assert cli.stdout == said


async def other(*argv: str) -> asyncio.subprocess.Process:
    """A process that runs before it is made a job."""
    return await asyncio.create_subprocess_exec(*argv)


async def test_a_process_that_runs_already_is_a_job_until_it_ends(app: App) -> None:
    process = await other("sleep", "60")
    async with Cli(app.url, "run", "--time", "50s", "--pid", str(process.pid)) as cli:
        job = await running(app)
        assert (job["connid"], job["time"]) == ("sleep", 50)
        process.kill()
        assert await cli.end() == 0
    await process.wait()
    (job,) = (await command(app, "history"))["jobs"]
    assert (job["outcome"], job["result"]["exit"]) == ("done", None)


@pytest.mark.parametrize("how", ["kill", "time"])
async def test_a_process_that_runs_already_is_ended_with_what_it_has_started(
    app: App, how: str
) -> None:
    script = "trap '' TERM; sleep 60 & echo $!; while :; do wait; done"
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    limit = "0.3s" if how == "time" else "60s"
    options = ("--name", "job", "--grace", "0.3", "--time", limit, "--pid", str(process.pid))
    async with Cli(app.url, "run", *options) as cli:
        if how == "kill":
            await running(app)
            await command(app, "kill", connid="job", reason="enough")
        assert await cli.end() == (123 if how == "kill" else 124)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == -signal.SIGKILL
    assert not alive(child)


async def test_who_watches_a_process_can_leave_it(app: App) -> None:
    process = await other("sleep", "60")
    try:
        async with Cli(app.url, "run", "--pid", str(process.pid)) as cli:
            await running(app)
            cli.signal(signal.SIGINT)
            assert await cli.end() == 128 + signal.SIGINT
        assert alive(process.pid)
        assert "is no longer watched, and goes on" in cli.said
        (job,) = (await command(app, "history"))["jobs"]
        assert job["outcome"] == "failed"
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pid", "999999999"], "--pid 999999999: "),
        (["--pid", "1", "--", "true"], "either --pid or a command"),
        (["--pid", "1", "--retry", "1"], "need a command"),
        (["--retry", "-1", "--", "true"], "--retry"),
    ],
)
async def test_what_does_not_go_together_is_said(options: list[str], said: str) -> None:
    async with Cli("http://127.0.0.1:1", "run", *options) as cli:
        assert await cli.end() == 125
    assert said in cli.said


async def test_a_full_disk_is_told(app: App) -> None:
    with Path("/dev/full").open("w") as full:  # noqa: ASYNC230
        cli = await Cli(app.url, "status", "--json").start(stdout=full)
        assert await cli.end() == 1
    assert "hourglass: cannot write: No space left on device" in cli.said


@pytest.mark.parametrize("how", ["run_module", "run_path"])
async def test_windows_is_told_that_there_is_none(how: str) -> None:
    what = "hourglass" if how == "run_module" else str(HOURGLASS)
    code = f"import os, runpy; os.name = 'nt'; runpy.{how}({what!r}, run_name='__main__')"
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "client")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environ, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 1
    assert said == b"hourglass needs Linux or macOS: there is none for Windows, but for WSL\n"


def script(folder: Path, text: bytes) -> Path:
    """A file that may be executed."""
    path = folder / "a script"
    path.write_bytes(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("by", ["path", "PATH"])
async def test_a_script_that_does_not_say_who_runs_it_is_run_by_sh(
    app: App, tmp_path: Path, by: str
) -> None:
    path = script(tmp_path, b"echo $0 $1; exit 4\n")
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} if by == "PATH" else {}
    program = "a script" if by == "PATH" else str(path)
    async with Cli(app.url, "run", "--", program, "$1", **environ) as cli:
        assert await cli.end() == 4
    assert (cli.stdout.decode(), cli.said) == (f"{path} $1\n", "")
    (job,) = (await command(app, "history"))["jobs"]
    assert job["connid"] == "a script"


async def test_an_interpreter_that_is_not_there_is_told(app: App, tmp_path: Path) -> None:
    path = script(tmp_path, b"#!/usr/bin/python9 -u\n")
    async with Cli(app.url, "run", "--", str(path)) as cli:
        assert await cli.end() == 127
    assert f"hourglass: {path}: its interpreter /usr/bin/python9 is not there\n" in cli.said


async def test_what_is_no_text_is_given_to_no_shell(app: App, tmp_path: Path) -> None:
    path = script(tmp_path, b"\x00\x01rm\n")
    async with Cli(app.url, "run", "--", str(path)) as cli:
        assert await cli.end() == 126
    assert "Exec format error" in cli.said
