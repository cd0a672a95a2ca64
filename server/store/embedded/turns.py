"""Operations on the same thing, one after the other."""

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from server.store.completion import Completion


class Turns:
    """Locks by name, which exist only while they are held."""

    def __init__(self) -> None:
        self._held: dict[Hashable, Completion[None]] = {}

    @asynccontextmanager
    async def turn(self, name: Hashable) -> AsyncIterator[None]:
        """Hold the lock of `name`. It can be awaited without a task, unlike a lock of asyncio."""
        while name in self._held:
            await self._held[name]
        released = self._held[name] = Completion()
        try:
            yield
        finally:
            del self._held[name]
            released.resolve(None)
