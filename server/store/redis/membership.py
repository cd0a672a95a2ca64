"""This node among the others: its signs of life, and who of its clients is in which room."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from server.clock import Clock
from server.config import Config
from server.contract.messages import Presence, encode
from server.errors import Unavailable
from server.store.redis.calls import Calls
from server.store.redis.next_due import NextDue

log = logging.getLogger(__name__)


class Membership:
    """Says again and again that this node lives, and what the others have to know of it."""

    def __init__(self, calls: Calls, config: Config, clock: Clock, due: NextDue) -> None:
        self._calls = calls
        self._config = config
        self._clock = clock
        self._due = due
        self._here: dict[str, Presence] = {}
        # Whether the others may not know who is here.
        self._unannounced = False
        self._beat_now = asyncio.Event()
        self.beats = 0
        """Signs of life so far."""
        self.silence = config.redis_heartbeat + config.stall_timeout
        """Seconds without a sign of life of any node after which leases begin anew."""

    async def run(self, then: Callable[[], None]) -> None:
        """Give signs of life until cancelled; `then` is called after each."""
        while True:
            try:
                await self.beat()
            except Unavailable as error:
                log.warning("no sign of life could be given: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.redis_heartbeat):
                    await self._beat_now.wait()
            self._beat_now.clear()
            then()

    def beat_soon(self) -> None:
        """Give the next sign of life now."""
        self._beat_now.set()

    async def beat(self) -> None:
        """Give a sign of life, and learn from the answer. Raises `Unavailable`."""
        asked_at = time.monotonic()
        self.beats += 1
        what = (repr(self._config.redis_deaf), self.beats, repr(self.silence))
        reply = await self._calls.call("beat", self._calls.node, *what, repr(self._clock.wall()))
        self._calls.theirs.learn(float(reply[2]), asked_at)
        self._calls.time.begin(float(reply[6]))
        self._due.know(node.decode() for node in reply[4])
        self._due.learn(reply[5], reply[1])
        if not reply[3] or self._unannounced:
            self._unannounced = False
            for presence in list(self._here.values()):
                self._announce(presence)

    async def leave(self) -> None:
        """Tell the others that this node ends. Raises `Unavailable`."""
        await self._calls.call("bye", self._calls.node)

    def announce(self, presence: Presence) -> None:
        """Say who of this node's clients is in a room."""
        self._here[presence.room] = presence
        self._announce(presence)

    def _announce(self, presence: Presence) -> None:
        def take(reply: Any, error: Exception | None) -> None:
            if error is not None or reply[0] != b"ok":
                self._unannounced = True
            elif not presence.watching and self._here.get(presence.room) is presence:
                del self._here[presence.room]

        what = (self._calls.node, presence.room, presence.watching, encode(presence))
        self._calls.order_soon("present", *what, take=take)
