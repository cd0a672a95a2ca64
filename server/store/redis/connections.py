"""Connections to Redis: where it is, how to get there, and one that keeps commands in order."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Any, Protocol

from hiredis import pack_command
from msgspec import Struct
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from server.errors import Unavailable
from server.store.redis.endpoint import RedisEndpoint
from server.store.redis.scripts import SCRIPTS, Arg, script

log = logging.getLogger(__name__)

LOST = (RedisError, OSError, TimeoutError)
"""What a connection fails with."""
AGAIN = (NoScriptError, ReadOnlyError, MasterDownError, TryAgainError)
"""Refusals of Redis that another connection, or a little time, will mend."""
REFUSALS = {
    "OOM": "the store is out of memory, and takes nothing new until it has room; jobs can be ended",
    "MISCONF": "the store cannot write its disk",
    "NOREPLICAS": "the store has too few replicas to write",
    "BUSY": "the store is busy",
}
"""By the code of a refusal after which nothing was done: what that means for who asked."""
MOST_SAID = 500
"""Characters of a refusal in which its code is looked for."""
QUIET = 1.0
"""Seconds between two refusals that are logged."""
PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Seconds between attempts to connect; the last one again and again."""
AT_ONCE = 500
"""Commands that are sent before their answers are read."""
TURN = 9
"""Where a change says to which turn it belongs: all before that turn have been answered."""


def evaluate(name: str, prefix: str, *args: Arg) -> list[Arg]:
    """The command that runs a script."""
    return ["EVALSHA", script(name).sha, 1, prefix, *args]


class ReconnectingConnection:
    """One connection, made anew when it is lost."""

    def __init__(self, endpoint: RedisEndpoint, timeout: float) -> None:
        self._connection = endpoint.connection()
        self._timeout = timeout
        self._ready = False
        self._failures = 0
        self.trouble: BaseException | None = None
        """Why it was lost, until it works again."""

    async def open(self) -> AbstractConnection:
        """The connection, with the scripts loaded. Raises one of `LOST`."""
        if self._ready and self._hung_up():
            await self.close()  # Found now, nothing is sent of which nobody knows what became.
        if not self._ready:
            async with asyncio.timeout(self._timeout):
                await self._connection.connect()
                await self.send([("SCRIPT", "LOAD", script(name).text) for name in SCRIPTS])
                for _ in SCRIPTS:
                    await self._connection.read_response()
            self._ready = True
        return self._connection

    def _hung_up(self) -> bool:
        reader = self._connection._reader
        return reader is None or reader.at_eof()

    async def send(self, commands: Iterable[tuple[Arg, ...]]) -> None:
        """Send commands, whose answers are to be read in their order."""
        packed = b"".join([pack_command(command) for command in commands])  # type: ignore[arg-type]
        await self._connection.send_packed_command(packed, check_health=False)

    def worked(self) -> None:
        """Something was done over it: the next loss is a new one."""
        self._failures, self.trouble = 0, None

    async def close(self) -> None:
        """Cut it; the next `open` connects anew."""
        self._ready = False
        await self._connection.disconnect(nowait=True)

    async def lost(self, error: BaseException) -> None:
        """Cut it, and wait a little before the next attempt."""
        await self.close()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # Inside of redis-py a cancellation can turn into the failure to connect.
            raise asyncio.CancelledError
        self.trouble = error
        if self._failures == 0:
            log.warning("a connection to Redis was lost: %s", str(error) or "no answer in time")
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        await asyncio.sleep(pause * random.uniform(0.5, 1))


class Ask(Struct, eq=False):
    """Something that is asked of Redis, in the order of all that is."""

    args: list[Arg]
    take: "Taking"
    deadline: float
    """By the clock of the loop."""
    change: bool = False
    """Whether it is one, which must be made once only, however often it is asked for."""
    writes: bool = False
    """Whether it changes something all the same."""
    sent: bool = False
    done: bool = False


class Taking(Protocol):
    """Who takes the answer of Redis, or why there is none."""

    def __call__(self, reply: Any, error: Exception | None) -> None: ...


class Orders:
    """Asks Redis one thing after the other, what one turn of the loop brings in one go.

    What cannot be answered before its deadline is refused. When the connection is lost the same is
    asked again: a script that has been carried out before answers what it did then.
    """

    def __init__(self, endpoint: RedisEndpoint, timeout: float) -> None:
        self._line = ReconnectingConnection(endpoint, timeout)
        self._timeout = timeout
        self._waiting: deque[Ask] = deque()
        self._under_way: list[Ask] = []
        self._turn = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_until = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def trouble(self) -> BaseException | None:
        """Why nothing can be asked now, if that is so."""
        return self._line.trouble

    def ask(self, ask: Ask) -> None:
        """Ask in turn."""
        self._waiting.append(ask)
        self._idle.clear()
        self._wake.set()
        if self._timer is None:
            self._expire()

    async def run(self) -> None:
        """Carry out what is asked, until cancelled."""
        try:
            while True:
                if not self._waiting:
                    self._idle.set()
                    self._wake.clear()
                    await self._wake.wait()
                self._take_turn()
                await self._carry_out()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for ask in (*self._under_way, *self._waiting):
                if not ask.done:
                    ask.done = True
                    ask.take(None, lost(ask.sent and (ask.change or ask.writes)))
            await self._line.close()

    async def rest(self) -> None:
        """Wait until nothing is waiting or under way."""
        await self._idle.wait()

    def _take_turn(self) -> None:
        self._turn += 1
        while self._waiting and len(self._under_way) < AT_ONCE:
            ask = self._waiting.popleft()
            if ask.change:
                ask.args[TURN] = self._turn
            self._under_way.append(ask)

    async def _carry_out(self) -> None:
        while True:
            self._under_way = [ask for ask in self._under_way if not ask.done]
            if not self._under_way:
                return
            try:
                async with asyncio.timeout(self._timeout):
                    await self._exchange()
                self._line.worked()
            except LOST as error:
                await self._line.lost(error)

    async def _exchange(self) -> None:
        connection = await self._line.open()
        asks = [ask for ask in self._under_way if not ask.done]
        for ask in asks:
            ask.sent = True
        await self._line.send([tuple(ask.args) for ask in asks])
        for ask in asks:
            try:
                reply, error = await connection.read_response(), None
            except AGAIN:
                raise
            except ResponseError as refusal:
                self._complain(refusal)
                reply, error = None, refused(refusal, unknown=ask.change or ask.writes)
            if not ask.done:
                ask.done = True
                ask.take(reply, error)

    def _complain(self, refusal: ResponseError) -> None:
        """Log why Redis refuses something, but not for each of many things."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.error("Redis refuses: %s", refusal)

    def _expire(self) -> None:
        """Refuse what has waited for too long; look again when the next one has."""
        self._timer = None
        loop = asyncio.get_running_loop()
        late = []
        for ask in chain(self._under_way, self._waiting):
            if ask.done:
                continue
            if ask.deadline > loop.time():
                self._timer = loop.call_at(ask.deadline, self._expire)
                break
            ask.done = True
            late.append(ask)
        for ask in late:  # Only now: who is told of it may ask for more at once.
            ask.take(None, lost(ask.sent and (ask.change or ask.writes)))


def refused(refusal: ResponseError, *, unknown: bool) -> Unavailable:
    """What is answered where Redis refuses something: never its own words, which name scripts.

    `unknown` says whether it may have been done in part, if it is none of the `REFUSALS`.
    """
    said = f"OOM {refusal}" if isinstance(refusal, OutOfMemoryError) else str(refusal)
    # In 6.2 the code is somewhere in what is said of the script.
    words = said[:MOST_SAID].replace("-", " ").split()
    for code, why in REFUSALS.items():
        if code in words:
            return Unavailable(f"{why}; nothing was changed")
    return Unavailable("the store refuses this; the cause is in the server's log", unknown=unknown)


def lost(unknown: bool) -> Unavailable:
    """The refusal of what could not be answered in time."""
    if unknown:
        text = "the store was lost as it was asked: whether this was done is not known"
        return Unavailable(text, unknown=True)
    return Unavailable("the store cannot be reached; nothing was changed")
