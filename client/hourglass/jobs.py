"""Work that shows itself: `with hourglass.job("import", time="30m") as job`.

Whatever is wrong with the server, the settings or what is told of the work: the work runs.
"""

import functools
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast

from hourglass.delivery import EXITS, Killed, Target, Thread, running_task, target_of
from hourglass.durations import seconds
from hourglass.running import Plan, Run

if TYPE_CHECKING:
    from datetime import timedelta

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

LEASE = 30.0
"""Seconds without a word after which a job is `lost`: its machine is gone, or cut off."""


class Scope:
    """What the work of a job runs in. Every context that was copied in there has it too, such as
    that of a task or of `asyncio.to_thread`: while one is left, the work is not gone."""

    def __init__(self, job: "Job", outer: "Scope | None") -> None:
        self.job = job
        self.outer = outer


SCOPE: ContextVar[Scope | None] = ContextVar("hourglass", default=None)


class Job:
    """A piece of work that everyone sees and anyone can kill. Made by `hourglass.job`.

    As a context manager, with `with` or `async with`, it is its block, one at a time; as a
    decorator of a function it is each call of that, any number at once.
    """

    result: object = None
    """What is left with the job when it is done: anything that JSON has, up to 4 KiB."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._scope: Scope | None = None
        self._run: Run | None = None

    @property
    def running(self) -> bool:
        """Whether this process is in it; one that was forked from the job's is not."""
        return self._scope is not None and self._run is not None and not self._run.inherited

    @property
    def killed(self) -> bool:
        """Whether somebody has killed it, or its time is over; for work that looks by itself."""
        return self._run is not None and self._run.door.error is not None

    def progress(self, done: float | None = None, note: str | None = None) -> None:
        """Show how far the work is: from 0 to 1, and in words. The latest counts.

        Raises `Killed` where the job was killed, and that has not arrived otherwise.
        """
        if (run := self._run) is not None:
            run.told = done, note
            if run.door.error is not None:
                run.door.check()

    def on_kill(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have something called, in another thread, when the job is killed or its time is over.

        For what blocks without running Python, such as `connection.cancel`. What it raises is
        ignored. Returns what takes it back.
        """
        callbacks = self._running().callbacks
        callbacks.append(callback)

        def forget() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return forget

    @contextmanager
    def shield(self) -> Iterator[None]:
        """A block that no kill interrupts: one that comes is raised after it."""
        door = self._running().door
        door.shield()
        try:
            yield
        finally:
            door.unshield()

    def __enter__(self) -> "Job":
        run = self._enter(sys._getframe(1))
        run.door.shields = 0  # From here on a kill may come.
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)

    async def __aenter__(self) -> "Job":
        run = self._begin(running_task() or Target())
        try:
            await run.wait_async()
        except BaseException as error:
            self._leave(error)
            raise
        run.door.shields = 0
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)

    def __call__(self, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        """Make each call of a function a job, named like it unless a name was given."""
        import inspect

        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("a generator cannot be a job; hourglass.track shows what one yields")
        plan = self._plan._replace(name=self._plan.name or function.__qualname__)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: Any, **more: Any) -> Any:
                async with Job(plan):
                    return await function(*args, **more)

            return cast("Callable[Parameters, Result]", call_async)

        @functools.wraps(function)
        def call(*args: Parameters.args, **more: Parameters.kwargs) -> Result:
            with Job(plan):
                return function(*args, **more)

        return call

    def begin_loop(self, total: int | None) -> Run:
        """Enter the scope of a generator that calls this, which looks for a kill at each item.

        Between two, its caller may have left it without its knowing: so a kill is delivered once.
        """
        run = self._enter(sys._getframe(1))
        run.total = total
        run.door.once = True
        run.door.shields = 0
        return run

    def leave_loop(self, error: BaseException) -> None:
        """Leave it, raising nothing."""
        self._leave(error)

    def end_loop(self, error: BaseException | None) -> None:
        """Leave it, and raise a kill that has come."""
        self._end(error)

    def _running(self) -> Run:
        if self._scope is None or self._run is None:
            raise RuntimeError("the job is not running")
        return self._run

    def _enter(self, frame: FrameType) -> Run:
        run = self._begin(target_of(frame))
        if isinstance(run.target, Thread) and running_task() is None:
            try:
                run.wait()
            except BaseException as error:  # Such as Ctrl-C.
                self._leave(error)
                raise
        return run

    def _begin(self, target: Target) -> Run:
        if self._scope is not None:
            raise RuntimeError("the job is running already: make another one")
        self._run = run = Run(self._plan, target, self._interrupted)
        self._scope = scope = Scope(self, SCOPE.get())
        run.traces = weakref.ref(scope)
        SCOPE.set(scope)
        run.begin()
        return run

    def _end(self, error: BaseException | None) -> None:
        interruption = None
        while True:
            try:
                self._leave(error)
                break
            except (Killed, KeyboardInterrupt, SystemExit) as raised:
                interruption = error = raised  # The job has ended all the same.
        run = self._run
        if interruption is not None:
            raise interruption
        passing = isinstance(error, (Killed, KeyboardInterrupt, SystemExit))
        if run is not None and run.door.error is not None and not passing:
            raise run.door.error() from error

    def _leave(self, error: BaseException | None) -> None:
        """Let no kill in any more, and tell the end; as often as this is called."""
        scope, run = self._scope, self._run
        if scope is None or run is None:
            return
        run.door.close()
        run.end(error, self.result)
        if SCOPE.get() is scope:
            SCOPE.set(scope.outer)
        self._scope = None

    def _interrupted(self, error: BaseException) -> None:
        """A kill was raised as the scope was left, before its door was closed."""
        self._leave(error)


EXITS.update(function.__code__ for function in (Job.__enter__, Job.__exit__, Job._end, Job._leave))


def job(
    name: str | None = None,
    *,
    time: "str | float | timedelta",
    note: str | None = None,
    if_running: Literal["number", "replace"] = "number",
    lease: "str | float | timedelta" = LEASE,
    url: str | None = None,
    token: str | None = None,
    room: str | None = None,
    by: str | None = None,
) -> Job:
    """A job: `with hourglass.job("import", time="30m")`, or `@hourglass.job(time="10m")`.

    `time` is its limit, in seconds or like "1h30m". When the name is running already, the board
    shows this one with a number, or it replaces the other. `url`, `token`, `room` and `by` are
    those of the command line, as are their defaults. Raises `ValueError` for what can never be a
    job; whatever else is wrong, the work runs.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError("a job's name is a text; as a decorator write @hourglass.job(time=…)")
    if if_running not in ("number", "replace"):
        raise ValueError(f"if_running must be number or replace, not {if_running!r}")
    limit, lasting = seconds(time), seconds(lease)
    if not 0 < limit < inf or not 0 <= lasting < inf:
        raise ValueError("time must be above 0, and lease at least 0")
    settings = {"url": url, "token": token, "room": room, "by": by}
    return Job(Plan(name, limit, lasting or None, note, if_running == "replace", settings))


def current() -> Job | None:
    """The innermost job that this runs in, if there is one: also in tasks that it has started."""
    scope = SCOPE.get()
    while scope is not None and not scope.job.running:
        scope = scope.outer
    return scope.job if scope is not None else None
