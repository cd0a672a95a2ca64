"""A backend as the event loop calls it: in a thread of its own where it may block."""

import logging
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from server.errors import Unavailable
from server.store.embedded.batch import Backend
from server.store.embedded.worker import Worker

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Access:
    """Calls a backend, one call at a time, in the order of the calls."""

    def __init__(self, backend: Backend) -> None:
        self._blocks = backend.blocks
        self._worker: Worker | None = None
        self.closed = False
        """Whether nothing may be read or written any more."""

    def open(self) -> None:
        """Begin; it is called where the loop runs."""
        if self._blocks:
            self._worker = Worker("store")

    def close(self) -> None:
        """End the thread, once all that it was given is done."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    async def call(self, work: Callable[..., Result], *args: object) -> Result:
        """What `work(*args)` returns or raises."""
        if self._worker is None:
            return work(*args)
        return await self._worker.do(work, *args)

    async def read(self, read: Callable[..., Result], *args: object) -> Result:
        """The same for somebody who asks. Raises `Unavailable` where it cannot be read."""
        if self.closed:
            raise Unavailable("the server is stopping")
        try:
            return await self.call(read, *args)
        except sqlite3.Error as error:
            log.error("the store cannot be read: %s", error)
            raise Unavailable("the store cannot be read") from error
