"""What `run` does around a command: hides what it prints, tries it again, tells that it failed."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hourglass.errors import Exit, shell_code

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the second attempt, then twice as many each time."""
FINAL = {Exit.CONFLICT, Exit.KILLED, Exit.TIMED_OUT, Exit.NOT_RUN}
FINAL |= {Exit.NOT_EXECUTABLE, Exit.NOT_FOUND}
"""Exit codes after which it is of no use, or of no right, to try again."""
INTERRUPTIONS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


def attempts(options: argparse.Namespace, run: Callable[[], int]) -> int:
    """Do `run` as often as it takes and is allowed; the last exit code, or below 0 the signal."""
    with hidden(options.quiet_ok) as output:
        code = run()
        for number in range(options.retry):
            if code == Exit.DONE or code in FINAL or code < 0 or code > 128:
                break
            pause = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
            if not options.quiet:
                told = f"exit code {code}; attempt {number + 2} of {options.retry + 1}"
                print(f"hourglass: {told} in {pause:.0f} s", file=sys.stderr, flush=True)
            if interrupted := wait(pause):
                code = -interrupted
                break
            code = run()
        output.wanted = code != Exit.DONE
    if code != Exit.DONE and options.on_fail:
        environ = {**os.environ, "HOURGLASS_EXIT": str(shell_code(code))}
        subprocess.run(["/bin/sh", "-c", options.on_fail], env=environ, check=False)
    return code


def wait(seconds: float) -> int:
    """Wait, unless a signal asks for an end: its number then, else 0."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        found = signal.sigtimedwait(INTERRUPTIONS, seconds)
        return found.si_signo if found is not None else 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass
class Hidden:
    """What was printed, and is shown at the end if it is wanted."""

    wanted: bool = True


@contextmanager
def hidden(on: bool) -> Iterator[Hidden]:
    """Keep what is printed to stdout and stderr in a file, in its order, until the end."""
    output = Hidden()
    if not on:
        yield output
        return
    stdout, stderr = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as kept:
        sys.stdout.flush()
        os.dup2(kept.fileno(), 1)
        os.dup2(kept.fileno(), 2)
        try:
            yield output
        finally:
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            if output.wanted:
                kept.seek(0)
                with os.fdopen(stdout, "wb") as target:
                    shutil.copyfileobj(kept, target)
