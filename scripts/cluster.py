"""Start Redis and a few servers on it, for a look at how many of them serve as one.

    .venv/bin/python scripts/cluster.py [SERVERS [FIRST_PORT]]

They end with Ctrl-C, and nothing is kept.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Child = subprocess.Popen[bytes]


def main() -> int:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    first_port = int(sys.argv[2]) if len(sys.argv) > 2 else 8001
    for signum in SIGNALS:
        signal.signal(signum, leave)
    servers: list[Child] = []
    stores: list[Child] = []
    with tempfile.TemporaryDirectory(prefix="hourglass-cluster-") as folder:
        try:
            redis = free_port()
            where = ["--bind", "127.0.0.1", "--port", str(redis), "--dir", folder]
            keeps = ["--appendonly", "yes", "--save", "", "--loglevel", "warning"]
            stores.append(begin(["redis-server", *where, *keeps]))
            wait_for(redis)
            environ = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{redis}/0"}
            for port in range(first_port, first_port + number):
                command = [sys.executable, "-m", "server", "--port", str(port)]
                servers.append(begin(command, environ))
            print(f"Redis is on 127.0.0.1:{redis}. Open two of the servers; Ctrl-C ends all.")
            while all(child.poll() is None for child in servers + stores):
                time.sleep(0.2)
            print("One of them has ended, so all do.", file=sys.stderr)
            return 1
        finally:
            end(servers)
            end(stores)


def leave(*_: object) -> None:
    """End with success, and hear no more signals on the way out."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    sys.exit(0)


def begin(command: list[str], environ: dict[str, str] | None = None) -> Child:
    """Start a process that does not hear the terminal's Ctrl-C: we end all, in their order."""
    return subprocess.Popen(command, env=environ, start_new_session=True)


def end(children: list[Child]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        child.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until something listens on a port; after ten seconds it will not."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit("redis-server did not start")


if __name__ == "__main__":
    sys.exit(main())
