"""One run of a job in this process: what is asked for, what is told of it, and its end."""

import contextlib
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hourglass.delivery import Door, Target, Thread
from hourglass.native import clock, native
from hourglass.program import Program

START_WITHIN = 0.2
"""Seconds that work waits until it is shown, at most."""
LONGEST = 500
"""Characters of a text that is shown."""


class Plan(NamedTuple):
    """What is asked for; times in seconds, and the settings that were given."""

    name: str | None
    time: float
    lease: float | None
    note: str | None
    replace: bool
    settings: Mapping[str, str | None]

    def message(self) -> dict[str, Any]:
        """It as the lease keeper is told, with what the environment says now."""
        name = self.name or os.path.basename(sys.argv[0] if sys.argv else "") or "python"
        told = {
            key: given or os.environ.get(f"HOURGLASS_{key.upper()}")
            for key, given in self.settings.items()
        }
        return {
            "connid": name,
            "lease": self.lease,
            "note": clipped(self.note),
            "replace": self.replace,
            "settings": {key: value for key, value in told.items() if value},
        }


def is_worker_process() -> bool:
    """Whether this is a process of `multiprocessing`, which ends by `os._exit`."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    return multiprocessing is not None and multiprocessing.parent_process() is not None


def clipped(text: object) -> str | None:
    """A text that is short enough to be shown."""
    return None if text is None else str(text)[:LONGEST]


class Run:
    """A run of a job, from the entry of its scope to the end of the last that it has started."""

    def __init__(
        self, plan: Plan, target: Target, interrupted: Callable[[BaseException], None]
    ) -> None:
        """`interrupted` is called when a kill was raised as the scope was left."""
        self.plan = plan
        self.target = target
        self.door = Door(target, interrupted)
        self.id = 0
        self.limit_at = 0.0
        """When its time is over, by `clock`."""
        self.began = 0.0
        self.key = os.urandom(16).hex()
        self.run: str | None = None
        self.name: str | None = None
        """Its id and its name on the server, once it is there."""
        self.thread: int | None = None
        """The system's number of the thread that it is alone in."""
        self.told: tuple[object, object] = None, None
        """How far it is, and in words; written by the work, and read now and then."""
        self.count = 0
        """Items that `track` has had done, of `total`."""
        self.total: int | None = None
        self.callbacks: list[Callable[[], object]] = []
        self.traces: weakref.ref[Any] | None = None
        """Dead when no task and no context of the scope is left in this process."""
        self.inherited = False
        """Whether this process was forked from the one that it runs in."""
        self.answered = False
        """Whether the server has answered, or is known to be away."""
        self.shown: Callable[[], object] | None = None
        self.ended: dict[str, Any] | None = None
        """The end as the lease keeper is told, when the scope has been left."""
        self._program: Program | None = None

    def begin(self) -> None:
        """The scope is entered. Nothing that is wrong here keeps the work from running."""
        try:
            self.target.enter(self.door)
        except ValueError:  # Signals are for the main interpreter.
            self.target = Thread()
        if isinstance(self.target, Thread):
            self.thread = native("_thread", "get_native_id")()
        self.began = clock()
        self.limit_at = self.began + self.plan.time
        try:
            self._program = Program.here()
        except (OSError, RuntimeError):  # No room for a thread, or the interpreter is ending.
            return
        self._program.start(self)

    def wait(self) -> None:
        """Wait until it is shown, but not for long."""
        lock = native("_thread", "allocate_lock")()
        lock.acquire()
        if self._waits_for(lock.release) and not lock.acquire(timeout=START_WITHIN):
            self._give_up()

    async def wait_async(self) -> None:
        """The same, while the loop goes on."""
        import asyncio

        loop = asyncio.get_running_loop()
        shown = asyncio.Event()
        if self._waits_for(lambda: loop.call_soon_threadsafe(shown.set)):
            waiting = loop.create_task(shown.wait())
            try:
                await asyncio.wait({waiting}, timeout=START_WITHIN)
            finally:
                waiting.cancel()
            if not self.answered:
                self._give_up()

    def _give_up(self) -> None:
        """The server hangs: until it answers nobody waits for it."""
        if self._program is not None:
            self._program.away = True

    def _waits_for(self, shown: Callable[[], object]) -> bool:
        """Whether `shown` may be called yet."""
        self.shown = shown
        return self._program is not None and not self._program.away and not self.answered

    def answer(self) -> None:
        """It is shown, or that will take longer; called by another thread."""
        self.answered = True
        if (shown := self.shown) is not None:
            self.shown = None
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                shown()

    def end(self, error: BaseException | None, result: object) -> None:
        """The scope has been left, by an error or at its end."""
        if self.ended is not None or self._program is None or self.inherited:
            return
        if self.door.error is not None:
            self.ended = {"outcome": "interrupted", "result": None}
        elif error is None:
            self.ended = {"outcome": "done", "result": result}
        else:
            text = f"{type(error).__name__}: {error}".removesuffix(": ")
            self.ended = {"outcome": "failed", "result": {"error": clipped(text)}}
        self._program.wake()
        if Program.forked or is_worker_process():
            Program.settle()

    def progress(self) -> tuple[float | None, str | None]:
        """How far the work is, as far as that can be shown."""
        done, note = self.told
        if self.count and done is None:
            done = self.count / self.total if self.total else None
            note = note or f"{self.count}/{self.total}" if self.total else f"{self.count}"
        try:
            part = None if done is None else min(1.0, max(0.0, float(done)))  # type: ignore[arg-type]
            return (part if part == part else None), clipped(note)
        except Exception:  # No number, or a text that cannot be made.
            return None, None
