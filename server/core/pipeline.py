"""One client's commands: carried out in their order, and answered in it.

Commands that change something are begun one right after the other, so that they share a commit: the
store decides them in that order. One that looks waits until those before it are done, and lets
none begin until it is: a client sees what it has done itself.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from sys import getsizeof
from types import CoroutineType
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

from server.access.rate_limits import WEIGHED, weight
from server.config import Config
from server.contract.messages import Command, Finish, Kill, Print, Refusal, Report, Request, encode
from server.core.commands import Commands
from server.core.replies import Caller, Done, Reply, refusal
from server.core.subscribers import Client
from server.errors import CommandError, RateLimited
from server.store.completion import Completion
from server.store.interface import Submitted

CHANGING = frozenset([Request, Kill, Finish, Report, Print])
"""What the store decides at once. Not `Stop`: it looks for an end that may not be durable yet. Nor
a `Request` that has a key: it looks for what that has started before."""
MAY_FOLLOW = CHANGING | {Reply}
"""What may begin while others are under way, if those are changing too."""
MANY_REFUSED = 100
"""Commands of a client that are refused for its rate before it is read no more for a while."""
MOST_REST = 10.0
"""The most seconds that a client is not read for what it has sent too much at once."""
COMMAND = 256
"""Bytes that a command takes beside its texts, about."""
LOOK_AGAIN = 0.05
"""Seconds after which a client that reads too slowly is looked at again."""


class Slot(Struct, eq=False):
    """A command that has begun; its reply goes out when those before it have."""

    tag: Any
    reply: Reply | None = None
    change: Submitted | None = None
    """What brings the reply, where that is a change."""
    began: float | None = None
    """When, for one that is timed."""


class Run:
    """A coroutine that runs without a task: until it first waits, and on whenever it can.

    A task would begin in a later turn of the loop, and cost more than most commands do. Without one
    it works for coroutines which only wait for futures, and do not ask in which task they are:
    `asyncio.timeout` would.
    """

    __slots__ = ("_done", "_work")

    def __init__(
        self, work: Coroutine[Any, Any, Done], done: Callable[[Done | BaseException], None]
    ) -> None:
        """`done` is called when it has ended, which may be at once."""
        self._work = work
        self._done = done
        self._step()

    def _step(self, _: Any = None) -> None:
        try:
            future = self._work.send(None)
        except StopIteration as end:
            self._done(end.value)
            return
        except (Exception, asyncio.CancelledError) as error:
            # Cancelled was a future that it waited for: there is no task that could be.
            self._done(error)
            return
        if future is None:  # asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(self._step)
            return
        # What a task does with the future that its coroutine waits for.
        future._asyncio_future_blocking = False
        if isinstance(future, Completion):
            future.then(self._step)
        else:
            future.add_done_callback(self._step)


class Pipeline:
    """The commands of one client that are under way."""

    __slots__ = (
        "_advancing",
        "_awaited",
        "_begun",
        "_caller",
        "_client",
        "_commands",
        "_config",
        "_held",
        "_hold",
        "_looking",
        "_most",
        "_owed",
        "_reading",
        "_resting",
        "_room",
        "_send",
        "_slow_since",
        "_waiting",
        "_waiting_size",
    )

    def __init__(
        self,
        commands: Commands,
        caller: Caller,
        client: Client,
        config: Config,
        send: Callable[[list[tuple[Any, bytes]]], None],
        hold: Callable[[bool], None],
    ) -> None:
        """`send([(tag, answer), …])` sends the JSON of each answer to what was fed with that tag.
        `hold(True)` asks that nothing more is read from the client, `hold(False)` that it is again.
        """
        self._commands = commands
        self._caller = caller
        self._client = client
        self._config = config
        self._send = send
        self._hold = hold
        self._most = config.max_pipeline
        self._begun: deque[Slot] = deque()
        # Those that have not begun, and how many bytes each takes.
        self._waiting: deque[tuple[Any, Command | Reply, int]] = deque()
        self._waiting_size = 0
        # Whether what has begun is a command that only looks.
        self._reading = False
        self._advancing = False
        # The change that is waited for: that of the first command that has begun.
        self._awaited: Submitted | None = None
        # Whether the client is not read because as many are under way as may be.
        self._held = False
        # Done when there is room again, for who waits for that.
        self._room: asyncio.Future[None] | None = None
        self._looking = False
        self._slow_since: float | None = None
        # Set while nothing is read because of its rate: the refusal that it was given last. And how
        # many were refused since the last rest.
        self._resting: Reply | None = None
        self._owed = 0

    def feed(self, tag: Any, name: str | None, payload: Any) -> None:
        """Take the command `name`, or that in the payload's `route`, as it was decoded."""
        try:
            command = self._commands.parse(self._caller, name, payload)
        except CommandError as error:
            self._take(tag, self._refused(Reply(refusal(error))))
        else:
            self._take(tag, command)

    def feed_json(self, tag: Any, event: str) -> bool:
        """Take an event as JSON; false when it has to be decoded and fed, to see what is wrong."""
        if self._resting is not None:
            # Not even decoded: it was read before the client was read no more.
            self._owed += 1
            self._take(tag, self._commands.refuse_again(self._resting))
            return True
        try:
            command = self._commands.parse_json(self._caller, event)
        except CommandError as error:
            self._take(tag, self._refused(Reply(refusal(error))))
            return True
        if command is None:
            return False
        self._take(tag, command)
        return True

    def refuse(self, tag: Any, error: CommandError) -> None:
        """Take what is no command at all."""
        self._take(tag, self._refused(self._commands.refuse(self._caller.bucket, error)))

    def waiting(self) -> int:
        """Bytes of commands that have not begun."""
        return self._waiting_size

    async def when_room(self) -> None:
        """Wait until more may be fed, or the client is gone."""
        while (self._full() or self._resting) and not self._client.gone:
            self._room = asyncio.get_running_loop().create_future()
            # That the client is gone is not told.
            await asyncio.wait([self._room], timeout=LOOK_AGAIN)

    async def when_answered(self) -> None:
        """Wait until all that was fed is answered, or the client is gone."""
        while (self._begun or self._waiting) and not self._client.gone:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_AGAIN)

    def _refused(self, reply: Reply) -> Reply:
        """Read no more for a while from a client that gives many more commands than it may.

        To refuse each takes almost as long as to carry it out, and the time is that of all others.
        """
        message = reply.message
        if isinstance(message, Refusal) and message.error.code == RateLimited.code:
            self._owed += 1
            if self._owed >= MANY_REFUSED and self._resting is None:
                self._resting = reply
                self._hold(True)
                self._rest()
        return reply

    def _rest(self) -> None:
        """Take as long as the commands that were refused would have been given time for."""
        rate = self._config.rate_limit or self._config.rate_limit_address
        seconds, self._owed = min(self._owed / rate, MOST_REST), 0
        asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        """Read on, unless what had been read already was too much as well."""
        if self._owed >= MANY_REFUSED and not self._client.gone:
            self._rest()
            return
        self._resting = None
        if not self._full():
            self._read_on()

    def _read_on(self) -> None:
        """There is room again."""
        self._hold(False)
        if self._room is not None:
            room, self._room = self._room, None
            room.set_result(None)

    def _full(self) -> bool:
        number = len(self._begun) + len(self._waiting)
        return number >= self._most or self._waiting_size > self._config.max_message

    def _take(self, tag: Any, command: Command | Reply) -> None:
        """Begin a command, or answer with a refusal, when it is its turn."""
        if not self._waiting and self._may_begin(command):
            self._begin(tag, command)
        else:
            size = weigh(command)
            self._waiting.append((tag, command, size))
            self._waiting_size += size
        if not self._held and self._full():
            self._held = True
            self._hold(True)

    def _begin(self, tag: Any, command: Command | Reply) -> None:
        if type(command) is Reply:
            self._begun.append(Slot(tag, command))
            self._advance()
            return
        self._reading = type(command) not in CHANGING or (
            type(command) is Request and command.key is not None
        )
        began = self._commands.began()
        try:
            work: Any = self._commands.begin(self._caller, command)
        except Exception as error:
            self._begun.append(Slot(tag, self._commands.reply(error)))
            self._advance()
            return
        if isinstance(work, CoroutineType):  # Asked so, as it is told at once.
            slot = Slot(tag, None, None, began)
            self._begun.append(slot)
            self._run(slot, work)
        else:
            self._begun.append(Slot(tag, None, work, began))
            if len(self._begun) == 1:
                self._advance()

    def _run(self, slot: Slot, work: Coroutine[Any, Any, Done]) -> None:
        Run(work, partial(self._ended, slot))

    def _may_begin(self, command: Command | Reply) -> bool:
        if self._begun:
            # Small answers, no more than `MAX_PIPELINE`: the client's backlog is no concern.
            return not self._reading and type(command) in MAY_FOLLOW
        if self._client.above_high_watermark(self._config.max_backlog):
            self._look_again()
            return False
        self._slow_since = None
        return True

    def _ended(self, slot: Slot, done: Done | BaseException) -> None:
        slot.reply = self._commands.reply(done)
        self._advance()

    def _advance(self) -> None:
        """Answer and begin what is next, and read on from the client when there is room again."""
        if self._advancing:
            return  # Something was done at once, below.
        self._advancing = True
        try:
            self._answer()
            while self._waiting and self._may_begin(self._waiting[0][1]):
                tag, command, size = self._waiting.popleft()
                self._waiting_size -= size
                self._begin(tag, command)
                self._answer()
        finally:
            self._advancing = False
        if self._held and not self._full():
            self._held = False
            if self._resting is None:
                self._read_on()

    def _answer(self) -> None:
        """Send the replies that are there, as far as they are next."""
        answers: list[tuple[Any, bytes]] = []
        while self._begun and (reply := self._reply(self._begun[0])) is not None:
            answer = encode(reply.message)
            if len(answer) >= WEIGHED:
                self._caller.bucket.charge(weight(len(answer)))
            slot = self._begun.popleft()
            if slot.began is not None:
                self._commands.answered(slot.began)
            answers.append((slot.tag, answer))
            if reply.then is not None:
                self._send(answers)
                answers = []
                reply.then()
        if answers:
            self._send(answers)

    def _reply(self, slot: Slot) -> Reply | None:
        """The reply to the command that is to be answered next; None while it is under way."""
        change = slot.change
        if change is None:
            return slot.reply
        if not change.done():
            if change is not self._awaited:
                self._awaited = change
                change.then(self._advance)
            return None
        if change.error is None:
            try:
                return self._commands.made(self._caller, change)
            except Exception as error:
                return self._commands.reply(error)
        slot.change = None
        self._run(slot, self._commands.changed(self._caller, change))
        return slot.reply

    def _look_again(self) -> None:
        """The client does not read the answers: begin nothing until it does, and not for ever."""
        if self._looking:
            return
        loop = asyncio.get_running_loop()
        self._slow_since = self._slow_since or loop.time()
        if loop.time() - self._slow_since > self._config.slow_timeout:
            self._client.drop()
        elif not self._client.gone:
            self._looking = True
            loop.call_later(LOOK_AGAIN, self._look)

    def _look(self) -> None:
        self._looking = False
        self._advance()


def weigh(command: Command | Reply) -> int:
    """The bytes that a command takes, about."""
    if type(command) is Reply:
        return COMMAND
    texts = sum(getsizeof(value) for value in astuple(command) if isinstance(value, str))
    result = len(bytes(command.result)) if isinstance(command, Finish) else 0
    return COMMAND + texts + result
