"""Start Redis and a few servers on it, for a look at how many of them serve as one.

    .venv/bin/python scripts/cluster.py [SERVERS]

They end with Ctrl-C, and nothing is kept.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

FIRST_PORT = 8001


def main() -> int:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="hourglass-cluster-") as folder:
        try:
            redis = free_port()
            where = ["--bind", "127.0.0.1", "--port", str(redis), "--dir", folder]
            keeps = ["--appendonly", "yes", "--save", "", "--loglevel", "warning"]
            processes.append(subprocess.Popen(["redis-server", *where, *keeps]))
            wait_for(redis)
            environ = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{redis}/0"}
            for port in range(FIRST_PORT, FIRST_PORT + number):
                command = [sys.executable, "-m", "server", "--port", str(port)]
                processes.append(subprocess.Popen(command, env=environ))
            print(f"Redis is on 127.0.0.1:{redis}. Open two of the servers; Ctrl-C ends all.")
            while all(process.poll() is None for process in processes):
                time.sleep(0.2)
            return 1
        except KeyboardInterrupt:
            return 0
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


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
