"""The outcome of an operation that is under way, such as a change of the store."""

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable
from contextvars import Context
from typing import Any, Generic, TypeVar

from msgspec import Struct

log = logging.getLogger(__name__)

Result = TypeVar("Result")

Waiter = tuple[Callable[[Any], Any], Context | None]
"""A callback, and the context that it is called in."""


class Completion(Struct, Generic[Result], eq=False):
    """An awaitable that is resolved with a result, or rejected with an error.

    It differs from a future in two ways. It cannot be cancelled: when a task is cancelled while it
    waits, the operation still runs to its end. And a waiting task resumes in the same turn of the
    loop in which the outcome arrives, where that is possible. It supports plain `await` only, and
    not `gather`, `wait`, `wait_for` or `shield` of asyncio.
    """

    error: BaseException | None = None
    """Why the operation failed, once that is known."""
    _done: bool = False
    _result: Result | None = None
    _first: Callable[[], None] | None = None
    _waiting: list[Waiter] | None = None
    _asyncio_future_blocking: bool = False

    def resolve(self, result: Result) -> None:
        """Record the result, and notify the waiters."""
        self.complete(result)
        self.notify()

    def reject(self, error: BaseException) -> None:
        """Record the error, and notify the waiters."""
        self.complete(None, error)
        self.notify()

    def complete(self, result: Result | None, error: BaseException | None = None) -> None:
        """Record the outcome without notifying anybody: `notify` follows."""
        self._result = result
        self.error = error
        self._done = True

    def notify(self) -> None:
        """Resume those who wait for the outcome."""
        if self._first is not None:
            # The callback may hold this completion, and must not be called twice.
            first, self._first = self._first, None
            try:
                first()
            except Exception:
                log.exception("the callback of a completed change failed")
        if self._waiting is not None:
            # A task cannot be resumed inside another one, nor may one delay the others.
            alone = len(self._waiting) == 1
            self._wake(at_once=alone and asyncio.current_task() is None)

    def then(self, resume: Callable[[], None]) -> None:
        """Call `resume` when the outcome is there.

        The first callback that is registered before then is called by `notify` itself, even inside
        a task; the others are called in the next turn of the loop.
        """
        if self._first is None and not self._done:
            self._first = resume
            return

        def look(_: object) -> None:
            if self._done:
                resume()
            else:  # Woken by the cancellation of another waiter.
                self.add_done_callback(look)

        self.add_done_callback(look)

    def __await__(self) -> "Generator[Completion[Result], None, Result]":
        while not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def done(self) -> bool:
        """Whether the outcome is there."""
        return self._done

    def result(self) -> Result:
        """The result, once it is done. Raises the error where there is one."""
        if self.error is not None:
            raise self.error
        return self._result  # type: ignore[return-value]

    # What asyncio expects of an awaitable object, besides `_asyncio_future_blocking`.

    def add_done_callback(
        self, callback: Callable[..., Any], *, context: Context | None = None
    ) -> None:
        if self._done:
            asyncio.get_running_loop().call_soon(callback, self, context=context)
        elif self._waiting is None:
            self._waiting = [(callback, context)]
        else:
            self._waiting.append((callback, context))

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def cancel(self, msg: Any = None) -> bool:
        """Wake all waiters: the task that is being cancelled ends, the others wait again."""
        self._wake(at_once=False)
        return False

    def _wake(self, *, at_once: bool) -> None:
        waiting, self._waiting = self._waiting, None
        for callback, context in waiting or ():
            if not at_once:
                asyncio.get_running_loop().call_soon(callback, self, context=context)
            elif context is None:
                callback(self)
            else:
                context.run(callback, self)


def notify_all(completions: Iterable[Completion[Any]]) -> None:
    """Notify the waiters of completions whose outcomes are recorded."""
    for completion in completions:
        if completion._first is not None or completion._waiting is not None:
            completion.notify()
