"""What a node asks of Redis: scripts, and the few commands that are none."""

import asyncio
import secrets
import time
from asyncio import Future
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from server.clock import Clock
from server.config import Config
from server.errors import Unavailable
from server.store.redis.clock import SharedTime, TheirClock
from server.store.redis.connections import Ask, Orders, Taking, evaluate
from server.store.redis.endpoint import RedisEndpoint
from server.store.redis.futures import refuse
from server.store.redis.scripts import Arg


class Phase(Enum):
    """What may still be asked."""

    OPEN = auto()
    CLOSING = auto()
    """No changes any more."""
    CLOSED = auto()
    """Nothing any more."""


class Calls:
    """Asks Redis over two connections, so that a big answer does not hold up the changes.

    Every method that waits raises `Unavailable`.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._endpoint = RedisEndpoint(config)
        self._orders = Orders(self._endpoint, config.redis_timeout)
        self._questions = Orders(self._endpoint, config.redis_timeout)
        self.endpoint = self._endpoint
        self.time = SharedTime(clock)
        self.theirs = TheirClock()
        # Sorts by age, so that all agree on who comes first.
        self.node = f"{int(time.time() * 1000):012x}{secrets.token_hex(4)}"
        """The name of this node."""
        self.prefix = f"{{{config.redis_prefix}}}:"
        """What the names of all keys begin with."""
        self.epoch = ""
        """The epoch that the scripts are to find."""
        self.phase = Phase.OPEN
        self.on_doubt: Callable[[], None] = lambda: None
        """Called where a script finds another epoch."""
        self._changes = 0

    @property
    def waiting(self) -> int:
        """Changes that wait to be sent."""
        return len(self._orders)

    @property
    def trouble(self) -> BaseException | None:
        """Why nothing can be asked now, if that is so."""
        return self._questions.trouble

    def start(self) -> list["asyncio.Task[None]"]:
        """The tasks that carry out what is asked, which are to be cancelled in the end."""
        return [asyncio.create_task(orders.run()) for orders in (self._orders, self._questions)]

    async def finish_changes(self) -> None:
        """Wait until every change has its answer."""
        await self._orders.rest()

    async def finish_questions(self) -> None:
        """Wait until every question has its answer."""
        await self._questions.rest()

    async def close(self) -> None:
        """Close what is asked for the way to Redis."""
        await self._endpoint.close()

    def change(self, args: list[Arg], take: Taking, deadline: float) -> None:
        """Ask for a change, which is made once, however often it has to be sent."""
        self._changes += 1
        # The turn is filled in when it is sent.
        once = (self.node, self._changes, 0, self._latest(), self._config.history)
        command = self._evaluate("change", *once, *args)
        self._orders.ask(Ask(command, take, deadline, change=True))

    async def write(self, name: str, *args: Arg, last: list[Arg]) -> Any:
        """Run a script that changes something, once, after all changes that were asked for; it is
        given this node, a number and the latest time for it between `args` and `last`."""
        self._changes += 1
        once = (self.node, self._changes, self._latest())
        command = self._evaluate(name, *args, *once, *last)
        return self.check(await self._put(self._orders, command, writes=True))

    async def order(self, name: str, *args: Arg) -> Any:
        """Run a script after all changes that were asked for before."""
        return self.check(await self._put(self._orders, self._evaluate(name, *args)))

    def order_soon(self, name: str, *args: Arg, take: Taking) -> None:
        """The same for who does not wait: `take` is given the answer."""
        deadline = asyncio.get_running_loop().time() + self._config.redis_timeout
        self._orders.ask(Ask(self._evaluate(name, *args), take, deadline))

    async def call(self, name: str, *args: Arg, epoch: str | None = None) -> Any:
        """Run a script that may be run again when nobody knows whether it was."""
        return self.check(await self.ask(*self._evaluate(name, *args, epoch=epoch)))

    async def ask(self, *command: Arg) -> Any:
        """Give a command that may be given again when nobody knows whether it was."""
        if self.phase is Phase.CLOSED:
            raise Unavailable("the server is stopping")
        return await self._put(self._questions, list(command))

    def check(self, reply: Any) -> Any:
        """The reply of a script. Raises `Unavailable` where it has done nothing."""
        if reply[0] == b"epoch":
            self.on_doubt()
            raise Unavailable("the store has lost its data, and begins anew; nothing was changed")
        if reply[0] == b"late":
            self.theirs.learn(float(reply[1]), time.monotonic())  # It may have been set.
            raise Unavailable("the store took too long; nothing was changed")
        return reply

    def _evaluate(self, name: str, *args: Arg, epoch: str | None = None) -> list[Arg]:
        fixed = (epoch or self.epoch, self.time.told(), self._config.redis_feed)
        return evaluate(name, self.prefix, *fixed, *args)

    def _latest(self) -> str:
        """When something is not done any more: it may have been answered `unavailable`."""
        return repr(self.theirs.now() + 0.75 * self._config.redis_timeout)

    def _put(self, orders: Orders, command: list[Arg], *, writes: bool = False) -> Future[Any]:
        loop = asyncio.get_running_loop()
        future: Future[Any] = loop.create_future()

        def take(reply: Any, error: Exception | None) -> None:
            if error is not None:
                refuse(future, error)
            elif not future.done():
                future.set_result(reply)

        orders.ask(Ask(command, take, loop.time() + self._config.redis_timeout, writes=writes))
        return future
