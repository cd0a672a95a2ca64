"""Coroutines that run without a task."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from server.store.completion import Completion

Result = TypeVar("Result")


class Taskless(Generic[Result]):
    """Runs a coroutine without a task. It begins at once, and resumes when what it awaits is done.

    A task would begin in a later turn of the loop, and cost more than most commands. The coroutine
    may await futures only, and use nothing that needs the current task, as `asyncio.timeout` does.
    """

    __slots__ = ("_failed", "_succeeded", "_work")

    def __init__(
        self,
        work: Coroutine[Any, Any, Result],
        succeeded: Callable[[Result], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """One of the callbacks is called with the outcome, which may be at once."""
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
            # A cancelled future is what it awaited: there is no task to cancel.
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
