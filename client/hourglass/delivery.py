"""How a kill reaches work that runs: raised in its thread, or by cancelling its task.

One delivery is not enough. What is raised inside a `__del__` is dropped there, and work may catch
what is raised in it. So a kill is delivered until its scope has been left, and not while what was
raised is on its way: a `finally` has its time. Whoever leaves the scope closes its `Door`; from
then on nothing is delivered, so that no kill hits the code that follows.
"""

import contextlib
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, ClassVar

from hourglass.native import clock, native

if TYPE_CHECKING:
    import asyncio

HELD = 5.0
"""Seconds that a raised kill may be on its way, in a `finally` or held by whoever caught it."""

SIGNAL: signal.Signals | None = getattr(signal, "SIGURG", None)
"""It wakes sleeps and locks, and is ignored where nobody handles it."""


class Killed(BaseException):
    """Somebody has killed the job. No `Exception`, as work that goes on after errors is to end."""

    def __init__(self, message: str = "", by: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.by = by
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        kind = TimedOut if isinstance(self, TimedOut) else Killed
        return kind, (str(self), self.by, self.reason)


class TimedOut(Killed):
    """The job's time is over."""


class Target:
    """What runs the work of a scope; this one cannot be interrupted."""

    stoppable = "no"
    """What a kill can do to the work, as the board shows it."""

    def enter(self, door: "Door") -> None:
        """The work of a scope begins; called by the target itself, as is what follows."""

    def leave(self, door: "Door") -> None:
        """It is over."""

    def retract(self) -> None:
        """Take back what was not raised yet."""

    def interrupt(self, door: "Door") -> None:
        """Have the door's kill raised there; called with its lock held, from another thread."""


class Door:
    """The way out of a scope, through which kills come in until it is closed."""

    def __init__(self, target: Target, leave: Callable[[BaseException], None]) -> None:
        """`leave` is called when a kill was raised in the very moment in which the scope is left:
        when it was not closed yet."""
        self._target = target
        self._leave = leave
        self._lock = native("_thread", "allocate_lock")()
        self._open = True
        self.shields = 1
        """Nothing is delivered above 0; it is 1 until the scope has been entered."""
        self.once = False
        """Whether one delivery has to do, as the work looks for itself, too."""
        self._sent = False
        self._flying: weakref.ref[Any] | None = None
        self._flying_since = 0.0
        self.error: type[Killed] | None = None
        """What is raised in the scope, once somebody has killed it."""

    @property
    def wanted(self) -> bool:
        """Whether the kill has to be delivered, for the first time or again."""
        return self._open and not self.shields and self.error is not None and not self._in_flight()

    @property
    def closed(self) -> bool:
        return not self._open

    def bring(self, kind: type[Killed], message: str, by: str | None, reason: str | None) -> None:
        """Kill what is in the scope; `deliver` has to follow, until the door is closed."""
        door = self

        def __init__(self: Killed) -> None:
            Killed.__init__(self, message, by, reason)
            door._born(self)

        parts = {"__init__": __init__, "__module__": kind.__module__, "__doc__": kind.__doc__}
        if self.error is None:
            self.error = type(kind.__name__, (kind,), parts)

    def deliver(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # The thread is gone.
            if self.wanted and not (self.once and self._sent):
                self._sent = True
                self._target.interrupt(self)

    def close(self) -> None:
        """Let nothing in from now on; called by the target."""
        with self._lock:
            self._open = False
            if self._sent:
                self._target.retract()
        self._target.leave(self)

    def shield(self) -> None:
        """Let nothing in until as many `unshield` have followed."""
        with self._lock:
            self.shields += 1
            if self._sent:
                self._target.retract()

    def unshield(self) -> None:
        """Raises a kill that has waited for that."""
        with self._lock:
            self.shields -= 1
        self.check()

    def check(self) -> None:
        """Raises a kill that is to be delivered; called by the target."""
        if self.wanted and self.error is not None:
            raise self.error()

    def inherit(self) -> None:
        """This process was forked: whoever delivers is in the other one."""
        self._lock = native("_thread", "allocate_lock")()
        self.error = None

    def flies(self, carrier: Any) -> None:
        """The kill is on its way for as long as `carrier` is there."""
        self._flying = weakref.ref(carrier)
        self._flying_since = clock()

    def _born(self, error: Killed) -> None:
        """It is raised, in the thread of the target."""
        self.flies(error)
        if self._open and sys._getframe(2).f_code in EXITS:
            self._leave(error)

    def _in_flight(self) -> bool:
        carried = self._flying is not None and self._flying() is not None
        return carried and clock() - self._flying_since < HELD


EXITS: set[CodeType] = set()
"""The functions that enter and leave scopes. In their first and last instructions a door may be
open, and a kill would go past it."""


class Thread(Target):
    """A thread other than the main one: what is set there is raised when it runs Python again."""

    stoppable = "cooperative"

    def __init__(self) -> None:
        self._ident = native("_thread", "get_ident")()

    def interrupt(self, door: Door) -> None:
        self._set(door.error)

    def retract(self) -> None:
        self._set(None)

    def _set(self, error: type[Killed] | None) -> None:
        import ctypes

        value = ctypes.py_object(error) if error is not None else ctypes.c_void_p(None)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._ident), value)


class MainThread(Thread):
    """The main thread: a signal wakes it from sleeps and locks, and its handler raises."""

    stoppable = "yes"
    doors: ClassVar[list[Door]] = []
    """Those of the scopes that it is in, the innermost last."""
    _previous: Any = None

    def interrupt(self, door: Door) -> None:
        assert SIGNAL is not None
        signal.pthread_kill(self._ident, SIGNAL)

    def retract(self) -> None:
        """The handler looks whether the door is open."""

    def enter(self, door: Door) -> None:
        assert SIGNAL is not None
        if signal.getsignal(SIGNAL) != self._handle:
            MainThread._previous = signal.signal(SIGNAL, self._handle)
        self.doors.append(door)

    def leave(self, door: Door) -> None:
        with contextlib.suppress(ValueError):
            self.doors.remove(door)
        if not self.doors and SIGNAL is not None and signal.getsignal(SIGNAL) == self._handle:
            signal.signal(SIGNAL, self._previous or signal.SIG_DFL)

    @classmethod
    def _handle(cls, signum: int, frame: FrameType | None) -> None:
        """Raise what is wanted. The door is looked at here, so that nothing comes too late."""
        if frame is None or frame.f_code not in EXITS:
            for door in cls.doors:
                door.check()
        if callable(cls._previous):
            cls._previous(signum, frame)


class Token:
    """What a cancellation carries: while it is there, so is the `CancelledError`."""


class Task(Target):
    """A task of asyncio. Nothing is ever raised in the thread of its loop."""

    stoppable = "cooperative"

    def __init__(self, loop: "asyncio.AbstractEventLoop", task: "asyncio.Task[Any]") -> None:
        self._loop = loop
        self._task = weakref.ref(task)  # It has what it has raised, and so all of its frames.
        self._cancelled = 0

    def interrupt(self, door: Door) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            self._loop.call_soon_threadsafe(self._cancel, door)

    def _cancel(self, door: Door) -> None:
        if door.wanted and (task := self._task()) is not None:
            token = Token()
            task.cancel(token)
            self._cancelled += 1
            door.flies(token)

    def leave(self, door: Door) -> None:
        """Forget our cancellations, so that only those of others count."""
        if sys.version_info >= (3, 11) and (task := self._task()) is not None:
            for _ in range(self._cancelled):
                task.uncancel()
        self._cancelled = 0


class Greenlet(Target):
    """A greenlet of gevent: its hub raises there."""

    stoppable = "cooperative"

    def __init__(self, greenlet: Any, hub: Any) -> None:
        self._greenlet = weakref.ref(greenlet)
        self._loop = hub.loop

    def interrupt(self, door: Door) -> None:
        self._loop.run_callback_threadsafe(self._throw, door)

    def _throw(self, door: Door) -> None:
        greenlet = self._greenlet()
        if door.wanted and door.error is not None and greenlet is not None:
            greenlet.throw(door.error())


SUSPENDED = 0x20 | 0x80 | 0x100 | 0x200
"""Flags of code that is left and entered again: generators and coroutines."""


def target_of(frame: FrameType) -> Target:
    """What runs the scope that is entered in `frame`."""
    task = running_task()
    inside = frame.f_code.co_flags & SUSPENDED or frame.f_globals.get("__name__") == "contextlib"
    if task is not None and inside:
        return task
    if "gevent" in sys.modules and (greenlet := running_greenlet()) is not None:
        return greenlet
    # Also code that a loop runs without suspending, such as a notebook's cell.
    ident, main = native("_thread", "get_ident")(), threading.main_thread().ident
    if ident == main and SIGNAL is not None and hasattr(signal, "pthread_kill"):
        return MainThread()
    return Thread()


def running_task() -> Task | None:
    """The task of asyncio that we are in."""
    asyncio = sys.modules.get("asyncio")
    loop = asyncio._get_running_loop() if asyncio is not None else None
    task = asyncio.current_task(loop) if asyncio is not None and loop is not None else None
    return Task(loop, task) if loop is not None and task is not None else None


def running_greenlet() -> Greenlet | None:
    """The greenlet of gevent that we are in, but for a thread's main one without a hub."""
    from gevent import getcurrent  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from gevent._hub_local import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        get_hub_if_exists,
    )

    hub = get_hub_if_exists()
    current = getcurrent()
    return Greenlet(current, hub) if hub is not None and hasattr(current, "start") else None
