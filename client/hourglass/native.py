"""What the system gives: a clock that cannot be set, and threads, locks and processes.

Also where gevent has put its own in their places: what is done beside the program has to go on
while its event loop does not.
"""

import sys
import time
from importlib import import_module
from typing import Any


def native(module: str, name: str) -> Any:
    """What a module of the standard library has by this name, before gevent replaced it."""
    if patched := sys.modules.get("gevent.monkey"):
        return patched.get_original(module, name)
    return getattr(import_module(module), name)


def clock() -> float:
    """Seconds that nobody can set, and that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
