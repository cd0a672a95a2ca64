"""Start a server in an instant: one process has imported all that they need, and forks for each.

Most of the time that `python -m server` takes to start goes into imports. What is forked is a
process of its own, with its own environment and output, and ends as any other does.
"""

import asyncio
import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class Forked:
    """A forked server, with what is used here of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, ended: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = asyncio.StreamReader()
        self.stderr = asyncio.StreamReader()
        self._ending = asyncio.create_task(self._end(ended))

    async def wait(self) -> int:
        """Wait for its end; the exit code, or the negative number of the signal that ended it."""
        return await asyncio.shield(self._ending)

    def send_signal(self, signum: signal.Signals) -> None:
        os.kill(self.pid, signum)

    async def _end(self, ended: socket.socket) -> int:
        with ended:
            self.returncode = int(await asyncio.get_running_loop().sock_recv(ended, 16))
        return self.returncode


async def fork(environ: dict[str, str], *argv: str) -> Forked:
    """Start `python -m server` with this environment, and pipes for its output."""
    loop = asyncio.get_running_loop()
    door, (ours, theirs) = forge(), socket.socketpair(type=socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    pipes = [os.pipe(), os.pipe()]
    ends = [theirs.fileno(), *(end for _, end in pipes)]
    with theirs:
        socket.send_fds(door, [json.dumps([environ, argv]).encode()], ends)
    for _, end in pipes:
        os.close(end)
    process = Forked(int(await loop.sock_recv(ours, 16)), ours)
    for reader, (end, _) in zip((process.stdout, process.stderr), pipes, strict=True):
        await feed(reader, end)
    return process


async def feed(reader: asyncio.StreamReader, end: int) -> None:
    """Have a reader read what comes out of a pipe."""
    protocol, pipe = asyncio.StreamReaderProtocol(reader), os.fdopen(end, "rb", 0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)


@cache
def forge() -> socket.socket:
    """The way to the process that forks; it ends when this one does."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", "tests.support.forge", str(theirs.fileno())]
        process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve_forks(door: socket.socket) -> int:
    """Fork a server for each request, until nobody can ask any more; in a server, its exit code."""
    import server.__main__

    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Who watches over a server is not waited for.
    while True:
        request, ends, _, _ = socket.recv_fds(door, 2**20, 3)
        if not request:
            return 0
        if os.fork() == 0:
            break
        for end in ends:
            os.close(end)
    door.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ended = socket.socket(fileno=ends[0])
    pid = os.fork()
    if pid:
        os.close(ends[1])
        os.close(ends[2])
        ended.send(str(pid).encode())
        ended.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
        os._exit(0)
    ended.close()
    os.setpgid(0, 0)  # See `Cli.start`: tests stop it.
    for number, end in enumerate(ends[1:], 1):
        os.dup2(end, number)
        os.close(end)
    environ, argv = json.loads(request)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["server", *argv]
    return server.__main__.main()


if __name__ == "__main__":
    sys.exit(serve_forks(socket.socket(fileno=int(sys.argv[1]))))
