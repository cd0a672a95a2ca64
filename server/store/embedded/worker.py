"""One thread for work that may wait for a disk, so that the event loop does not."""

import asyncio
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from server.store.completion import Completion

Result = TypeVar("Result")

Given = tuple[Completion[Any], Callable[..., Any], tuple[Any, ...]]


class Worker:
    """Does what it is given in that order, one at a time.

    An executor does as much for three turns of the loop and two futures each. Work that never ends,
    because of its disk, does not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        """`name` is that of the thread. Made where the loop runs."""
        self._loop = asyncio.get_running_loop()
        self._given: SimpleQueue[Given | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[..., Result], *args: object) -> Completion[Result]:
        """Have `work(*args)` done: its result, or what it has raised."""
        completion: Completion[Result] = Completion()
        self._given.put((completion, work, args))
        return completion

    def stop(self) -> None:
        """End the thread, once all is done."""
        self._given.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (given := self._given.get()) is not None:
            completion, work, args = given
            try:
                tell = partial(completion.resolve, work(*args))
            except BaseException as error:
                tell = partial(completion.reject, error)
            try:
                self._loop.call_soon_threadsafe(tell)
            except RuntimeError:  # The loop is closed: the server did not wait for the disk.
                return
            del given, completion, work, args, tell  # Else they would be held until there is more.
