"""Ways to leave a process behind, each killed in several ways: none is left.

A few of them run with all tests, all of them in `make soak`, which prints what was left of each.
"""

import contextlib
import os
import shlex
import shutil
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


def py(code: str) -> str:
    """A shell command that runs a Python program."""
    return shlex.join([PY, "-c", code])


SHELLS = {
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
    "exec": "exec sleep 60",
    "session in place of the shell": "exec setsid -w sleep 60",
    "subshells": "( ( (sleep 60; sleep 60) & wait) & wait) & wait",
    "function": "f() { sleep 60; sleep 60; }; f & wait",
    "command substitution": "x=$(sleep 60 & sleep 60)",
    "loop": "while :; do sleep 60; done",
    "loop that reads": "while read -r x; do sleep 60; done < <(yes)",
    "writer that waits": "yes | sleep 60",
    "reader that waits": "tail -f /dev/null",
    "disown -h": "shopt -s huponexit; sleep 60 & disown -h; sleep 60",
    "coprocess, session": "coproc setsid sleep 60; sleep 60",
    "sessions in sessions": "setsid sh -c 'setsid sh -c \"setsid sleep 60 & wait\" & wait' & wait",
    "sessions, forked in turn": "setsid --fork sh -c 'setsid --fork setsid --fork sleep 60';"
    " sleep 60",
    "without descriptors": "exec <&- >&- 2>&-; sleep 60 & sleep 60",
    "SIGCHLD ignored": "trap '' CHLD; sleep 60 & sleep 60",
    "trap at exit": "trap 'sleep 60' EXIT; sleep 60",
    "trap that leaves a session": "trap 'setsid sleep 60 & exit' TERM; while :; do sleep 0.1; done",
    "trap that starts more": "trap 'setsid sleep 60 & sleep 60 &' TERM;"
    " while :; do sleep 0.1; done",
    "starts more all the time": "for i in $(seq 300); do setsid sleep 60 & sleep 0.01; done; wait",
    "stopped group": "set -m; (sleep 60; sleep 60) & kill -STOP -$!; wait",
    "stopped session": "setsid sh -c 'kill -STOP $$; sleep 60' & wait",
    "stopped shell": "sleep 60 & kill -STOP $$",
}  # fmt: skip
PYTHONS = {
    "subprocess": "subprocess.run(['sleep', '60'])",
    "subprocess, session": "subprocess.Popen(['sleep', '60'], start_new_session=True); wait()",
    "posix_spawn": "os.posix_spawn('/bin/sleep', ['sleep', '60'], os.environ); wait()",
    "posix_spawn, session": "os.posix_spawn('/bin/sleep', ['sleep', '60'], os.environ,"
    " setsid=True); wait()",
    "fork": "os.fork(); wait()",
    "fork, four times": "[os.fork() for _ in range(4)]; wait()",
    "two forks around a session": "os.fork() or (os.setsid(), os.fork()); wait()",
    "parent that ends first": "os.fork() or (os.fork() or wait(), os._exit(0)); wait()",
    "children that nobody waits for": "[os.fork() or os._exit(0) for _ in range(9)]; wait()",
    "child that gives no signal": "ctypes.CDLL(None).syscall("
    "{'x86_64': 56, 'aarch64': 220}[os.uname().machine], 0, 0, 0, 0, 0); wait()",
    "multiprocessing, fork": "mp.get_context('fork').Process(target=wait).start(); wait()",
    "multiprocessing, spawn": "mp.get_context('spawn').Process(target=time.sleep,"
    " args=(60,)).start(); wait()",
    "multiprocessing, forkserver": "mp.get_context('forkserver').Process(target=time.sleep,"
    " args=(60,)).start(); wait()",
    "pool of processes": "list(futures.ProcessPoolExecutor(3).map(time.sleep, [60] * 3))",
    "threads with children": "list(futures.ThreadPoolExecutor(3).map(os.system,"
    " ['sleep 60'] * 3))",
    "children of asyncio": "asyncio.run(children())",
    "terminal of its own": "pty.fork(); wait()",
    "shell on a terminal": "pty.spawn(['sh', '-c', 'sleep 60 & sleep 60']); wait()",
    "traced by its parent": "os.fork() or (ctypes.CDLL(None).ptrace(0, 0, 0, 0),"
    " os.execvp('sleep', ['sleep', '60'])); wait()",
    "not to be dumped": "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); wait()",
    "process group of its own": "os.fork() or os.setpgid(0, 0); wait()",
    "handler that forks": "signal.signal(signal.SIGTERM, lambda *_: os.fork()); wait(); wait()",
    "handler that goes on": "signal.signal(signal.SIGTERM, print); wait(); wait()",
    "work at its exit": "atexit.register(wait); signal.signal(signal.SIGTERM,"
    " lambda *_: sys.exit()); wait()",
    "fork at its exit": "atexit.register(lambda: os.fork() or wait());"
    " signal.signal(signal.SIGTERM, lambda *_: sys.exit()); wait()",
    "all signals blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); wait()",
    "SIGCHLD not taken": "signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.fork(); wait()",
}  # fmt: skip
IMPORTS = """
import asyncio, atexit, ctypes, multiprocessing as mp, os, pty, signal, subprocess, sys, time
from concurrent import futures
def wait(): time.sleep(60)
async def children(): await (await asyncio.create_subprocess_exec("sleep", "60")).wait()
"""
PROGRAMS = {
    "nice": "nice sleep 60 & wait",
    "ionice": "ionice -c3 sleep 60",
    "chrt": "chrt -b 0 sleep 60",
    "taskset": "taskset -c 0 sleep 60",
    "stdbuf": "stdbuf -oL sleep 60",
    "flock": "flock /dev/null setsid -w sleep 60",
    "env": 'env -i MARK="$MARK" sleep 60',
    "make": "printf 'a b c:\\n\\tsleep 60\\n' | env -u MAKEFLAGS make -j3 -f - a b c",
    "parallel": "seq 4 | parallel --will-cite -j4 sleep 6{}",
    "find": "find / -maxdepth 0 -exec sleep 60 \\;",
    "awk": "awk 'BEGIN { print | \"sleep 60\"; system(\"sleep 60\") }'",
    "perl": "perl -MPOSIX -e 'fork; setsid; fork; sleep 60'",
    "node": "node -e 'require(\"child_process\").spawn(\"sleep\", [\"60\"], {detached: true})"
    ".unref(); setTimeout(() => {}, 60000)'",
    "ruby": "ruby -e 'Process.daemon; sleep 60' & sleep 60",
    "php": "php -r 'exec(\"setsid sleep 60\");'",
    "busybox": "busybox sh -c 'sleep 60 & busybox setsid sleep 60; busybox sleep 60'",
    "socat": "socat EXEC:'sleep 60',pty,setsid PIPE",
    "script": "script -qc 'sleep 60 & sleep 60' /dev/null",
    "sudo": 'sudo -n MARK="$MARK" sleep 60 || sleep 60',
    "su": "su -m -c 'sleep 60; sleep 60' || sleep 60",
    "runuser": "runuser -m -c 'sleep 60; sleep 60' root || sleep 60",
    "setpriv": "setpriv --pdeathsig KILL sleep 60",
    "start-stop-daemon": "start-stop-daemon -S -b -x /bin/sleep -- 60; sleep 60",
    "chronic": "chronic setsid -w sleep 60",
    "strace": "strace -f -o /dev/null sh -c 'sleep 60 & sleep 60'",
    "gdb": "gdb -q -batch -ex run --args sleep 60",
    "git": "git -c alias.x='!sleep 60; sleep 60' x",
    "ssh-agent": "ssh-agent sleep 60",
    "tmux": "tmux -L $MARK -f /dev/null new -d sleep 60; sleep 60",
    "screen": "screen -d -m sleep 60; sleep 60",
    "unshare": "unshare -U sleep 60 || sleep 60",
    "unshare, process ids": "unshare -Urpf sh -c 'sleep 60 & sleep 60' || sleep 60",
    "unshare, first ignores": "unshare -Urpf sh -c 'trap \"\" TERM; sleep 60; :' || sleep 60",
    "unshare, its own /proc": "unshare -Urpf --mount-proc sleep 60 || sleep 60",
    "unshare, network": "unshare -Urn setsid -w sleep 60 || sleep 60",
}  # fmt: skip
"""Each needs what its name begins with."""
WAYS = {
    **SHELLS,
    **{name: py(f"{IMPORTS}{code}") for name, code in PYTHONS.items()},
    **PROGRAMS,
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
    if way in PROGRAMS and not shutil.which(way.partition(",")[0]):
        tell(f"{way}: not run here")
        return
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
