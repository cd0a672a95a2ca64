"""What this process has running, and the process beside it that keeps that on the server.

A thread tells the *lease keeper* of starts, progress and ends, hears of kills from it, and delivers
them. The keeper is a process of its own, so that leases hold while the interpreter is busy, and
that it is noticed when this process dies. A process that is forked from this one has nothing of it.
"""

import atexit
import contextlib
import os
import select
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from hourglass.delivery import Killed, TimedOut
from hourglass.native import clock, native

if TYPE_CHECKING:
    from hourglass.keeper import Keeper
    from hourglass.running import Run

AGAIN = 0.05
"""Seconds until a kill that has not arrived is delivered again."""
LOOK = 0.5
"""Seconds between two looks at how far the work is."""
RESPAWN = 1.0
"""Seconds until a lease keeper that has died is followed by another."""
EXIT_WITHIN = 0.2
"""Seconds that the end of the process waits until the ends of its jobs are told."""


def call_all(callbacks: list[Callable[[], object]]) -> None:
    """Call what is to be called at a kill; what it raises is nobody's."""
    for callback in callbacks:
        with contextlib.suppress(BaseException):
            callback()


class Program:
    """This process, as far as it runs jobs."""

    here_now: ClassVar["Program | None"] = None
    _lock: ClassVar[Any] = native("_thread", "allocate_lock")()
    _hooked: ClassVar[bool] = False
    forked: ClassVar[bool] = False
    """Whether this process was forked from one with jobs, and may end by `os._exit`."""

    @classmethod
    def here(cls) -> "Program":
        """That of this process. Raises `OSError` and `RuntimeError` where there can be none."""
        if cls.here_now is None:
            with cls._lock:
                if cls.here_now is None:
                    cls.here_now = cls()
        return cls.here_now

    def __init__(self) -> None:
        self.away = False
        """Whether the server is known to be away, so that nobody waits for it."""
        self._new: deque[Run] = deque()
        self._runs: dict[int, Run] = {}
        self._untold: set[int] = set()
        """Runs whose end the server may not know."""
        self._killed: dict[int, bool] = {}
        """Runs to which a kill is brought; whether their processes are being ended."""
        self._last_id = 0
        self._told: dict[int, Any] = {}
        self._look_at = 0.0
        self._keeper: Keeper | None = None
        self._respawn_at = 0.0
        self._waking, self._wake = os.pipe()
        os.set_blocking(self._waking, False)
        os.set_blocking(self._wake, False)
        native("_thread", "start_new_thread")(self._work, ())
        if not Program._hooked:
            os.register_at_fork(after_in_child=Program._forked)
            atexit.register(Program.settle)
            Program._hooked = True

    def start(self, run: "Run") -> None:
        """A scope has been entered; `run.ended` says when it has been left, followed by `wake`."""
        self._new.append(run)
        self.wake()

    def wake(self) -> None:
        """Have the thread look at once; interrupts and blocks nothing."""
        with contextlib.suppress(OSError):  # It has been woken often enough; or we were forked.
            os.write(self._wake, b"!")

    @classmethod
    def _forked(cls) -> None:
        """In a process that was forked: the jobs are the other one's, and so is its keeper."""
        cls._lock = native("_thread", "allocate_lock")()
        cls.forked = True
        program, cls.here_now = cls.here_now, None
        if program is None:
            return
        for run in [*program._runs.values(), *program._new]:
            run.inherited = True
            run.door.inherit()
        for descriptor in (program._waking, program._wake):
            os.close(descriptor)
        program._wake = -1
        if program._keeper is not None:
            program._keeper.close()

    @classmethod
    def settle(cls) -> None:
        """Wait a moment until all ends are told: before a process ends, and its container with it.

        Those that end by `os._exit` have to call it; of `multiprocessing` we know.
        """
        program = cls.here_now
        if program is None:
            return
        patience = clock() + EXIT_WITHIN
        while program._busy() and clock() < patience:
            native("time", "sleep")(0.005)

    def _busy(self) -> bool:
        ended = any(run.ended is not None for run in self._runs.copy().values())
        return ended or bool(self._new) or (bool(self._untold) and not self.away)

    def _work(self) -> None:
        while True:
            try:
                self._turn()
            except Exception as error:  # Whatever is wrong with us, the work goes on.
                self._complain(f"what shows the jobs has failed: {error!r}")
                native("time", "sleep")(RESPAWN)

    def _turn(self) -> None:
        self._wait()
        with contextlib.suppress(BlockingIOError):
            os.read(self._waking, 4096)
        if self._keeper is not None:
            for message in self._keeper.receive():
                self._take(message)
            if self._keeper.dead:
                self._lose_keeper()
        self._begin_new()
        if self._keeper is None and clock() >= self._respawn_at and self._runs:
            self._spawn()
        self._deliver()
        self._end_left()
        if clock() >= self._look_at:
            self._look()
        if self._keeper is not None:
            self._keeper.flush()

    def _wait(self) -> None:
        poll = native("select", "poll")()
        poll.register(self._waking, select.POLLIN)
        if self._keeper is not None:
            poll.register(self._keeper.descriptor, self._keeper.events)
        wait = None
        if self._runs:
            wait = AGAIN if self._killed else max(0.0, self._look_at - clock())
        poll.poll(None if wait is None else wait * 1000 + 1)

    def _begin_new(self) -> None:
        while self._new:
            run = self._new.popleft()
            self._last_id += 1
            run.id = self._last_id
            self._runs[run.id] = run
            self._look_at = min(self._look_at, run.limit_at)
            if self._keeper is not None:
                self._send_start(run)

    def _spawn(self) -> None:
        from hourglass.keeper import Keeper

        self._keeper = Keeper.start()
        for run in self._runs.values():
            self._send_start(run)

    def _lose_keeper(self) -> None:
        assert self._keeper is not None
        self._keeper.close()
        self._keeper = None
        self._respawn_at = clock() + RESPAWN
        self._untold.clear()
        self._told.clear()

    def _send_start(self, run: "Run") -> None:
        assert self._keeper is not None
        message = run.plan.message()
        message.update(left=run.limit_at - clock(), began=run.began, thread=run.thread)
        message["stoppable"] = run.target.stoppable
        message.update(run=run.run, name=run.name, key=run.key)
        self._keeper.send("start", run.id, **message)

    def _take(self, message: dict[str, Any]) -> None:
        what, run = message["say"], self._runs.get(message.get("id", 0))
        if what in ("away", "up"):
            self.away = what == "away"
            for waiting in self._runs.values() if self.away else ():
                waiting.answer()
        elif what == "problem":
            self._complain(message["text"])
        elif what == "over":
            self._untold.discard(message["id"])
        elif run is not None and what == "shown":
            run.run, run.name = message["run"], message["name"]
            self.away = self.away and run.run is None
            run.answer()
        elif run is not None and what == "extended":
            run.limit_at = clock() + message["left"]
        elif run is not None and what == "killed":
            self._kill(run, Killed, message["text"], message["by"], message["reason"])
        elif run is not None and what == "elapsed":
            self._time_out(run)

    def _time_out(self, run: "Run") -> None:
        self._kill(run, TimedOut, f"the time of {run.limit_at - run.began:g} s is over", None, None)

    def _kill(
        self, run: "Run", kind: type[Killed], text: str, by: str | None, reason: str | None
    ) -> None:
        if run.id in self._killed or run.ended is not None:
            return
        run.answer()
        run.door.bring(kind, text, by, reason)
        self._killed[run.id] = False

    def _deliver(self) -> None:
        for id, interrupted in list(self._killed.items()):
            run = self._runs[id]
            if not interrupted and (not run.door.shields or run.door.closed):
                self._killed[id] = True
                self._interrupt(run)
            run.door.deliver()

    def _interrupt(self, run: "Run") -> None:
        """Have everything interrupted that a raised kill does not reach."""
        if self._keeper is not None:
            self._keeper.send("interrupt", run.id)
        if run.callbacks:
            native("_thread", "start_new_thread")(call_all, (list(run.callbacks),))

    def _end_left(self) -> None:
        for run in [run for run in self._runs.values() if run.ended is not None]:
            if run.id in self._killed and run.traces is not None and run.traces() is not None:
                continue  # Something that it has started is still there.
            assert run.ended is not None
            del self._runs[run.id]
            self._killed.pop(run.id, None)
            run.answer()
            self._tell_progress(run)
            self._told.pop(run.id, None)
            if self._keeper is not None:
                self._untold.add(run.id)
                self._keeper.send("end", run.id, **run.ended)

    def _look(self) -> None:
        """Tell how far the work is, and end what is at its time."""
        now = clock()
        self._look_at = now + LOOK
        for run in self._runs.values():
            if now >= run.limit_at:
                self._time_out(run)
            else:
                self._look_at = min(self._look_at, run.limit_at)
            self._tell_progress(run)
        self._deliver()

    def _tell_progress(self, run: "Run") -> None:
        told = run.progress()
        if self._keeper is not None and told != self._told.get(run.id, (None, None)):
            self._told[run.id] = told
            self._keeper.send("progress", run.id, done=told[0], note=told[1])

    def _complain(self, problem: str) -> None:
        """Say what is wrong to whoever has asked for it; nothing is ever printed."""
        import logging

        logger = logging.getLogger("hourglass")
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        logger.warning("%s; the work goes on, within its time", problem)
