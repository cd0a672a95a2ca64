"""One thread for work that may wait for a disk, so that the event loop does not."""

import asyncio
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from server.store.ticket import Ticket

Result = TypeVar("Result")

Given = tuple[Ticket[Any], Callable[..., Any], tuple[Any, ...]]


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

    def do(self, work: Callable[..., Result], *args: object) -> Ticket[Result]:
        """Have `work(*args)` done: its result, or what it has raised."""
        ticket: Ticket[Result] = Ticket()
        self._given.put((ticket, work, args))
        return ticket

    def stop(self) -> None:
        """End the thread, once all is done."""
        self._given.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (given := self._given.get()) is not None:
            ticket, work, args = given
            try:
                tell = partial(ticket.settle, work(*args))
            except BaseException as error:
                tell = partial(ticket.refuse, error)
            try:
                self._loop.call_soon_threadsafe(tell)
            except RuntimeError:  # The loop is closed: the server did not wait for the disk.
                return
            del given, ticket, work, args, tell  # Else they would be held until there is more.
