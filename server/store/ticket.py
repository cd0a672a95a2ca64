"""What will come of a change that a store was asked for."""

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.store import Entry

log = logging.getLogger(__name__)


class Ticket:
    """Awaitable: the entries of a change once they are durable and told, or `Stale`, `Foreign`,
    `TooMany`, `Unavailable`. When it is done its outcome is the truth for good.

    For a task it is like a future, but nothing takes it back: the change of a task that is
    cancelled while it waits comes to its outcome all the same. It is made to be awaited alone:
    `asyncio.gather` and `asyncio.wait` ask for more than it has.
    """

    __slots__ = ("_asyncio_future_blocking", "_entries", "_error", "_waiting", "resume")

    def __init__(self) -> None:
        self.resume: Callable[[], None] | None = None
        """Called at once when the outcome is there, where a callback of a future has to wait for
        the next turn of the loop. Set by the one who waits first."""
        self._entries: list[Entry] | None = None
        self._error: Exception | None = None
        self._waiting: list[Callable[[], Any]] | None = None
        self._asyncio_future_blocking = False

    def settle(self, entries: "list[Entry]") -> None:
        """The change has been made."""
        self._entries = entries
        self._go_on()

    def refuse(self, error: Exception) -> None:
        """The change has not been made."""
        self._error = error
        self._go_on()

    def _go_on(self) -> None:
        if self.resume is not None:
            try:
                self.resume()
            except Exception:
                log.exception("what waited for a change has failed")
        self._wake()

    def __await__(self) -> "Generator[Ticket, None, list[Entry]]":
        while not self.done():
            self._asyncio_future_blocking = True
            yield self
        if self._error is not None:
            raise self._error
        assert self._entries is not None
        return self._entries

    # What asyncio asks of something that a task waits for, besides `_asyncio_future_blocking`.

    def result(self) -> None:
        """Nothing: `__await__` has the outcome."""

    def done(self) -> bool:
        return self._entries is not None or self._error is not None

    def add_done_callback(self, callback: Callable[..., Any], *, context: Any = None) -> None:
        loop = asyncio.get_running_loop()

        def call() -> None:
            loop.call_soon(callback, self, context=context)

        if self.done():
            call()
        elif self._waiting is None:
            self._waiting = [call]
        else:
            self._waiting.append(call)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def cancel(self, msg: Any = None) -> bool:
        """Wake all who wait: the task that is being cancelled ends, the others wait again."""
        self._wake()
        return False

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        for call in waiting or ():
            call()
