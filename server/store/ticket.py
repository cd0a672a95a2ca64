"""What will come of something that was asked for, such as a change of the store."""

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


class Ticket(Struct, Generic[Result], eq=False):
    """Awaitable: the result, or the error that there was instead, once one of them is there.

    For a task it is like a future, with two differences. Nothing takes it back: what a task has
    asked for that is cancelled while it waits comes to its end all the same. And who waits goes on
    in the turn of the loop in which the outcome comes, where that can be. It is made to be awaited
    alone: `gather`, `wait`, `wait_for` and `shield` of asyncio ask for more than it has.
    """

    error: BaseException | None = None
    """Why it has not been done, once that is known."""
    _done: bool = False
    _result: Result | None = None
    _first: Callable[[], None] | None = None
    _waiting: list[Waiter] | None = None
    _asyncio_future_blocking: bool = False

    def settle(self, result: Result) -> None:
        """It has been done."""
        self.bring(result)
        self.go_on()

    def refuse(self, error: BaseException) -> None:
        """It has not been done."""
        self.bring(None, error)
        self.go_on()

    def bring(self, result: Result | None, error: BaseException | None = None) -> None:
        """The outcome is there; `go_on` tells those who wait."""
        self._result = result
        self.error = error
        self._done = True

    def go_on(self) -> None:
        """Let those who wait for the outcome go on."""
        if self._first is not None:
            # It may hold this ticket, and is not called twice.
            first, self._first = self._first, None
            try:
                first()
            except Exception:
                log.exception("what waited for a change has failed")
        if self._waiting is not None:
            # A task cannot go on inside another one, and none keeps the others from going on.
            alone = len(self._waiting) == 1
            self._wake(at_once=alone and asyncio.current_task() is None)

    def then(self, resume: Callable[[], None]) -> None:
        """Call `resume` when the outcome is there: at once, even where a task brings it, for the
        first who asks for that before, and in the next turn of the loop for the others."""
        if self._first is None and not self._done:
            self._first = resume
            return

        def go_on(_: object) -> None:
            if self._done:
                resume()
            else:  # Another one was woken who waits no more.
                self.add_done_callback(go_on)

        self.add_done_callback(go_on)

    def __await__(self) -> "Generator[Ticket[Result], None, Result]":
        while not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def done(self) -> bool:
        """Whether the outcome is there."""
        return self._done

    def result(self) -> Result:
        """What has come of it, once it is done; raises the error that there was instead."""
        if self.error is not None:
            raise self.error
        return self._result  # type: ignore[return-value]

    # What asyncio asks of something that a task waits for, besides `_asyncio_future_blocking`.

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
        """Wake all who wait: the task that is being cancelled ends, the others wait again."""
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


def go_on_with(tickets: Iterable[Ticket[Any]]) -> None:
    """Let those who wait for any of these go on, where the outcomes are there."""
    for ticket in tickets:
        if ticket._first is not None or ticket._waiting is not None:
            ticket.go_on()
