"""Coroutines that run without a task."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from server.store.completion import Completion

Result = TypeVar("Result")


class Taskless(Generic[Result]):
    """Runs a coroutine without a task: until it first waits, and on whenever it can.

    A task would begin in a later turn of the loop, and cost more than most commands do. Without one
    it works for coroutines which only wait for futures, and do not ask in which task they are:
    `asyncio.timeout` would.
    """

    __slots__ = ("_failed", "_succeeded", "_work")

    def __init__(
        self,
        work: Coroutine[Any, Any, Result],
        succeeded: Callable[[Result], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """One of the callbacks is called with what comes of it, which may be at once."""
        self._work = work
        self._succeeded = succeeded
        self._failed = failed
        self._step()

    def _step(self, _: Any = None) -> None:
        try:
            future = self._work.send(None)
        except StopIteration as end:
            self._succeeded(end.value)
            return
        except (Exception, asyncio.CancelledError) as error:
            # Cancelled was a future that it waited for: there is no task that could be.
            self._failed(error)
            return
        if future is None:  # asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(self._step)
            return
        # What a task does with the future that its coroutine waits for.
        future._asyncio_future_blocking = False
        if isinstance(future, Completion):
            future.then(self._step)
        else:
            future.add_done_callback(self._step)
