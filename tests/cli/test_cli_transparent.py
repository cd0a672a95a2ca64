"""`hourglass run` between a shell and a command: it changes nothing for either of them."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from server.app import App
from tests.conftest import Connect
from tests.support.servers import command, eventually
from tests.support.shell import output_of, script, terminal

pytestmark = pytest.mark.slow


ALONE = "env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL"
"""As if the tests were not run by a make themselves."""
MAKEFILE = """
all:
\t+@$(HG) run -q --name sub -- $(MAKE) --no-print-directory -f {sub} 2>&1
"""


async def test_a_command_reads_from_a_process_substitution(app: App) -> None:
    assert await output_of(app.url, "$HG run -- cat <(echo hi)") == ("hi\n", 0)


async def test_a_command_writes_to_the_descriptors_of_its_shell(app: App, tmp_path: Path) -> None:
    file = tmp_path / "nine"
    text = f"exec 9>{file}; $HG run -- sh -c 'echo nine >&9; exec 9>&-; sleep 60' & wait"
    process = await script(app.url, text)
    await eventually(lambda: file.exists() and file.read_text() == "nine\n")
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def test_who_waits_for_a_descriptor_does_not_wait_for_us(app: App) -> None:
    """The command closes it and goes on; then nobody has it."""
    inner = "echo nine >&9; exec 9>&- >&- 2>&-; sleep 60"
    text = f"{{ $HG run -q -- sh -c '{inner}' 9>&1 >/dev/null & }} | cat; kill -KILL 0"
    assert (await output_of(app.url, text))[0] == "nine\n"


async def test_make_passes_its_job_slots_through(app: App, tmp_path: Path) -> None:
    (tmp_path / "sub").write_text("all: a b\na b:\n\t@echo $@\n")
    (tmp_path / "top").write_text(MAKEFILE.format(sub=tmp_path / "sub"))
    out, code = await output_of(app.url, f'{ALONE} make -j2 -f {tmp_path / "top"} HG="$HG"')
    assert (sorted(out.split()), code) == (["a", "b"], 0)


async def test_a_command_is_told_of_its_listening_sockets(app: App) -> None:
    inner = "echo $LISTEN_FDS; test $LISTEN_PID = $$ && echo ours"
    text = f"export LISTEN_FDS=1; (export LISTEN_PID=$BASHPID; exec $HG run -- sh -c '{inner}')"
    assert await output_of(app.url, text) == ("1\nours\n", 0)


async def test_a_command_is_in_the_process_group_of_its_shell(app: App) -> None:
    inner = "ps -o pgid=,sid= -p $$"
    out, _ = await output_of(app.url, f"ps -o pgid=,sid= -p $$; $HG run -- sh -c '{inner}'")
    ours, its = out.splitlines()
    assert its == ours


async def test_a_signal_to_the_group_reaches_a_command_once(app: App) -> None:
    trap = 'trap "echo one" HUP; echo ready; read; sleep 0.3; read'
    process = await script(
        app.url,
        f"trap '' HUP; (trap - HUP; exec $HG run -- bash -c '{trap}')",
        stdin=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdin is not None
    assert await process.stdout.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGHUP)
    assert await process.stdout.readline() == b"one\n"
    process.stdin.write(b"\n\n")
    out, _ = await process.communicate()
    assert out == b""


async def test_in_the_background_it_does_not_read_what_is_typed(app: App) -> None:
    async with terminal(app.url) as shell:
        await shell.command("$HG run -q --name job -- cat &")
        await shell.see(r"\[1\]")
        await shell.notice(r"\[1\]\+\s+Stopped")
        await shell.command("echo mine | tr a-z A-Z")
        await shell.see("MINE")
        await shell.command("fg")
        await shell.see("run -q")
        shell.type("to the cat\n")
        await shell.see("to the cat\r\nto the cat")
        shell.type("\x04")
        await shell.command("echo $?")
        await shell.see(r"\n0\r")


async def test_ctrl_c_ends_the_loop_around_it(app: App) -> None:
    async with terminal(app.url) as shell:
        inner = "sh -c 'echo begun; exec sleep 60'"
        await shell.command(f"for i in 1 2 3; do $HG run -q --no-pty --name job -- {inner}; done")
        await shell.see(r"\nbegun\r")
        shell.type("\x03")
        await shell.command("echo code $?")
        await shell.see("code 130")
    assert [it["result"]["exit"] for it in (await command(app, "history"))["jobs"]] == [130]


async def test_ctrl_z_stops_it_and_its_time_goes_on(app: App, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"])
    async with terminal(app.url) as shell:
        await shell.command(
            "$HG run -q --no-pty --name job --time 3 -- sh -c 'echo $$; sleep 60; sleep 60'"
        )
        pid = int((await shell.see(r"\n(\d+)\r"))[1])
        shell.type("\x1a")
        await shell.see(r"\[1\]\+\s+Stopped")
        await eventually(lambda: state(pid) == "T")
        await shell.command("fg")
        await shell.see("run -q")
        await eventually(lambda: state(pid) == "S")
        shell.type("\x1a")
        await shell.see(r"\[1\]\+\s+Stopped")
        assert (await client.event("finished"))["outcome"] == "elapsed"
        assert (await client.event("stopped"))["exit"] == 143
        await shell.notice(r"\[1\]\+\s+Exit 124")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a process 1")
async def test_process_1_reaps_what_others_leave(app: App) -> None:
    """An orphan that the worker does not see is that of a process outside of the tree."""
    inner = "(sleep 0.1 & exec true); sleep 0.5; ps -e -o stat=,comm= | grep -c ^Z; kill -INT $$"
    text = f"unshare --pid --fork --mount-proc --kill-child $HG run -q -- bash -c '{inner}'"
    assert await output_of(app.url, text) == ("0\n", 130)
