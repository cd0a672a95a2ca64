#!/usr/bin/env bash
# enlighten 1.14.1 asks its terminal what it can do and where its cursor is, and waits a second for an answer:
# not once, but at each update of a bar, for as long as none comes. On a pseudo-terminal that nobody answers
# (as of many runners of CI) ten updates take some ten seconds. To tell the cursor's place ends it at once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check enlighten==1.14.1
cat > bar.py <<'PY'
import time

import enlighten

manager = enlighten.get_manager()
bar = manager.counter(total=10, desc="Work")
begun = time.monotonic()
for _ in range(10):
    time.sleep(0.11)  # More than the least time between two updates.
    bar.update()
manager.stop()
print(f"\ntook {time.monotonic() - begun:.1f} s")
PY
cat > run.py <<'PY'
"""Run the bar on a pseudo-terminal that answers its queries, or does not."""

import os
import pty
import re
import sys


def seconds(answering):
    pid, master = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "bar.py"])
    shown, asked = b"", 0
    try:
        while data := os.read(master, 4096):
            shown += data
            for _ in re.findall(rb"\x1b\[6n", data):  # After questions about its abilities.
                asked += 1
                if answering:
                    os.write(master, b"\x1b[1;1R")
    except OSError:
        pass  # So a pseudo-terminal tells its end.
    os.waitpid(pid, 0)
    took = float(re.search(rb"took ([\d.]+) s", shown)[1])
    print(f"answered: {answering!s:5}  asked {asked} times, took {took} s")
    return took


silent, answered = seconds(False), seconds(True)
sys.exit(0 if silent > 5 and answered < 3 else 1)
PY
echo "enlighten $(venv/bin/python -c 'import importlib.metadata as m; print(m.version("enlighten"))')"
venv/bin/python run.py
