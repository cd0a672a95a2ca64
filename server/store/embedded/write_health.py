"""Whether the embedded store can write its file, and why not."""

import asyncio
import logging
import math
import sqlite3
from collections.abc import Callable
from contextlib import suppress

from server.errors import Unavailable
from server.store.embedded.access import Access
from server.store.embedded.batch import Backend, Lost

log = logging.getLogger(__name__)

PROBE = 65_536
"""Bytes that are written to find out whether there is room again: about what a busy commit is."""


class WriteHealth:
    """Finds out whether the file is where it was left, and can be written."""

    def __init__(
        self, backend: Backend, access: Access, interval: float, changed: Callable[[str], None]
    ) -> None:
        """`changed(why)` is called with why nothing can be written, empty when all is well. The
        file is looked at every `interval` seconds."""
        self._backend = backend
        self._access = access
        self._interval = interval
        self._changed = changed
        self._unwritable = ""
        self._written_at = -math.inf
        self.lost = ""
        """Why the file is not where it was left, so that nothing may be written."""

    async def watch(self) -> None:
        """Look whether the file is there and can be written, until cancelled."""
        while self._backend.blocks:
            await asyncio.sleep(self._interval)
            if self._access.closed:
                return
            await self._check()
            if self._unwritable and not self.lost:
                with suppress(Unavailable):
                    await self._probe(PROBE)

    async def ping(self) -> None:
        """Find out whether something can be written, unless it was a moment ago. Raises
        `Unavailable`."""
        if asyncio.get_running_loop().time() - self._written_at > self._interval:
            await self._probe(1)

    def wrote(self) -> None:
        """Something was written."""
        self._written_at = asyncio.get_running_loop().time()
        if self._unwritable:
            self._unwritable = ""
            self._judge()

    def failed(self, error: object) -> None:
        """Something could not be written."""
        self._unwritable = f"the store cannot be written: {error}"
        self._judge()

    async def _check(self) -> None:
        try:
            await self._access.call(self._backend.check)
        except Lost as lost:
            if not self.lost:
                log.error("nothing is written any more: %s", lost)
            self.lost = str(lost)
        else:
            if self.lost:
                log.warning("the file is as it was left, and is written again")
            self.lost = ""
        self._judge()

    async def _probe(self, size: int) -> None:
        if self._access.closed:
            raise Unavailable("the server is stopping")
        try:
            await self._access.call(self._backend.probe, size)
        except sqlite3.Error as error:
            self.failed(error)
            raise Unavailable(self._unwritable) from error
        self.wrote()

    def _judge(self) -> None:
        self._changed(self.lost or self._unwritable)
