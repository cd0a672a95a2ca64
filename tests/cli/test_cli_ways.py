"""Ways to leave a process behind, each killed in several ways: none is left.

A few of them run with all tests, all of them in `make soak`, which prints what was left of each.
"""

import contextlib
import os
import signal
import sys
import uuid
from pathlib import Path

import pytest

from hourglass.tree import processes
from server.app import App
from tests.conftest import Tell
from tests.support.cli import Cli
from tests.support.servers import command, eventually
from tests.support.soak import SOAK

pytestmark = pytest.mark.slow


PY = sys.executable
WAYS = {
    "child": "sleep 60; sleep 60",
    "background": "sleep 60 & sleep 60 & wait",
    "orphan": "(sleep 60 &) ; sleep 60",
    "double fork": "( (sleep 60 &) & ) ; sleep 60",
    "session": "setsid sleep 60 & sleep 60",
    "session, forked": "setsid --fork sleep 60; sleep 60",
    "nohup": "nohup sleep 60 >/dev/null 2>&1 & sleep 60",
    "disown": "sleep 60 & disown; sleep 60",
    "coprocess": "coproc sleep 60; sleep 60",
    "pipeline": "sleep 60 | sleep 60 | sleep 60",
    "process substitution": "cat <(sleep 60) >(sleep 60)",
    "job control": "set -m; sleep 60 & sleep 60 & wait",
    "SIGTERM ignored": "trap '' TERM; sleep 60; sleep 60",
    "all ignored": "trap '' HUP INT QUIT TERM USR1 USR2; setsid sleep 60 & sleep 60; sleep 60",
    "SIGTERM blocked": f"{PY} -c 'import signal, time; S = signal.SIGTERM;"
    " signal.pthread_sigmask(signal.SIG_BLOCK, [S]); time.sleep(60)'",
    "trap that goes on": "trap 'sleep 60' TERM; while :; do sleep 0.05; done",
    "stopped": "sleep 60 & kill -STOP $!; wait",
    "stops itself": "(kill -STOP $BASHPID; sleep 60) & wait",
    "daemon(3)": f"{PY} -c 'import ctypes, time; ctypes.CDLL(None).daemon(1, 1); time.sleep(60)'"
    " & sleep 60",
    "subreaper": f"{PY} -c 'import ctypes, subprocess, time; ctypes.CDLL(None).prctl(36, 1);"
    ' subprocess.run(["sh", "-c", "setsid sleep 60 & true"]); time.sleep(60)\'',
    "threads": f"{PY} -c 'import threading, time;"
    " [threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(4)]'",
    "first thread ended": f"{PY} -c 'import ctypes, os, threading, time;"
    " threading.Thread(target=time.sleep, args=(60,)).start();"
    ' ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)\'',
    "forks on": "f() { sleep 0.2; f & }; f; sleep 60",
    "many": "for i in $(seq 60); do sleep 60 & done; wait",
    "timeout": "timeout 60 sleep 60",
    "timeout in the foreground": "timeout --foreground 60 setsid sleep 60",
    "xargs": "seq 4 | xargs -P 4 -I% sleep 6%",
    "another name": "(exec -a '1) Z 1 (' sleep 60) & sleep 60",
    "zombies": "(sleep 0.1 & exec sleep 60)",
}
QUICK = ["session, forked", "all ignored", "stopped", "subreaper", "first thread ended", "forks on"]
KILLS = ("board", "time", "SIGTERM", "SIGKILL", "worker", "group")


def marked(mark: str) -> list[int]:
    """The processes that have a mark in their environment."""
    found = []
    for pid in processes():
        try:
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("way", WAYS if SOAK else QUICK)
async def test_nothing_is_left(app: App, way: str, tell: Tell) -> None:
    for how in KILLS if SOAK else ("board", "SIGKILL", "group"):
        left = await left_after(app, way, how)
        if SOAK:
            tell(f"{way}, ended by {how}: {len(left)} left")
        assert not left, (way, how)


async def left_after(app: App, way: str, how: str) -> list[int]:
    """What is left of a command after its end, when it has had time to go."""
    mark = f"mark-{uuid.uuid4()}"
    limit = "1.5" if how == "time" else "60"
    options = ("--name", "job", "--grace", "0.3", "--time", limit, "--if-running", "replace")
    cli = Cli(app.url, "run", *options, "--", "bash", "-c", f"echo; {WAYS[way]}", MARK=mark)
    await cli.start(process_group=0)
    await cli.line()
    guard = cli.process.pid
    ours = [pid for pid, one in processes().items() if one.parent == guard]
    if how == "board":
        await command(app, "kill", connid="job")
    elif how in ("SIGTERM", "SIGKILL"):
        cli.signal(signal.Signals[how])
    elif how == "worker":
        (worker,) = (pid for pid in ours if os.getpgid(pid) == pid)
        os.kill(worker, signal.SIGKILL)
    elif how == "group":
        os.killpg(guard, signal.SIGKILL)
    await cli.end(30)
    with contextlib.suppress(TimeoutError):
        await eventually(lambda: not marked(mark), 15)
    left = marked(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left
