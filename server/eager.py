"""Run a coroutine without a task, from the caller's own turn of the loop.

A task begins in a later turn, and costs more than most commands do. This is for coroutines that
only wait for futures, and do not ask which task they are in: `asyncio.timeout` would.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Eager(Generic[Result]):
    """A coroutine that runs until it first waits, at once, and goes on whenever it can."""

    __slots__ = ("_coroutine", "_done")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Result], done: Callable[[Result], None]
    ) -> None:
        """`done(result)` is called at its end, which may be before this returns."""
        self._coroutine = coroutine
        self._done = done
        self._step(None)

    def _step(self, _: Any) -> None:
        try:
            future = self._coroutine.send(None)
        except StopIteration as end:
            self._done(end.value)
            return
        if future is None:  # asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(self._step, None)
        else:
            # What a task does with the future that its coroutine waits for.
            future._asyncio_future_blocking = False
            future.add_done_callback(self._step)
