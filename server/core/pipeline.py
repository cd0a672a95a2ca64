"""One client's commands: carried out in their order, and answered in it.

Writes are begun one right after the other, so that they share a commit: the store decides them in
that order. A read waits until those before it are done, and lets none begin until it is: a client
sees what it has done itself.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from sys import getsizeof
from typing import Any

from msgspec import Raw
from msgspec.structs import astuple

from server.access.rate_limits import WEIGHED, weight
from server.config import Config
from server.contract.messages import Answer, Refusal, encode
from server.core.commands import Call, Commands
from server.core.replies import Caller
from server.core.subscribers import Client
from server.errors import CommandError, RateLimited

MANY_REFUSED = 100
"""Commands of a client that are refused for its rate before it is read no more for a while."""
MOST_REST = 10.0
"""The most seconds that a client is not read for what it has sent too much at once."""
COMMAND = 256
"""Bytes that a command takes beside its texts, about."""
LOOK_AGAIN = 0.05
"""Seconds after which a client that reads too slowly is looked at again."""


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
        self._begun: deque[Call] = deque()
        # Those that have not begun, and how many bytes each takes.
        self._waiting: deque[tuple[Call, int]] = deque()
        self._waiting_size = 0
        # Whether what has begun is a read.
        self._reading = False
        self._advancing = False
        # What is waited for: the first command that has begun.
        self._awaited: Call | None = None
        # Whether the client is not read because as many are under way as may be.
        self._held = False
        # Done when there is room again, for who waits for that.
        self._room: asyncio.Future[None] | None = None
        self._looking = False
        self._slow_since: float | None = None
        # Set while nothing is read because of its rate: the refusal that it was given last. And how
        # many were refused since the last rest.
        self._resting: Refusal | None = None
        self._owed = 0

    def feed(self, tag: Any, name: str | None, payload: Any) -> None:
        """Take the command `name`, or that in the payload's `route`, as it was decoded."""
        self._take(tag, self._commands.parse(self._caller, name, payload))

    def feed_json(self, tag: Any, event: str) -> bool:
        """Take an event as JSON; false when it has to be decoded and fed, to see what is wrong."""
        if self._resting is not None:
            # Not even decoded: it was read before the client was read no more.
            self._take_refused(tag, self._commands.refuse_again(self._resting))
            return True
        call = self._commands.parse_json(self._caller, event)
        if call is None:
            return False
        self._take(tag, call)
        return True

    def refuse(self, tag: Any, error: CommandError) -> None:
        """Take what is no command at all."""
        self._take_refused(tag, self._commands.refuse(self._caller.bucket, error))

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

    def _note_refusal(self, message: Answer | Refusal) -> None:
        """Read no more for a while from a client that gives many more commands than it may.

        To refuse each takes almost as long as to carry it out, and the time is that of all others.
        """
        if isinstance(message, Refusal) and message.error.code == RateLimited.code:
            self._owed += 1
            if self._owed >= MANY_REFUSED and self._resting is None:
                self._resting = message
                self._hold(True)
                self._rest()

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

    def _take(self, tag: Any, call: Call) -> None:
        """Begin a command, or answer with its refusal, when it is its turn."""
        call.tag = tag
        if call.message is not None:
            self._note_refusal(call.message)
        if not self._waiting and self._may_begin(call):
            self._begin(call)
        else:
            size = estimated_size(call)
            self._waiting.append((call, size))
            self._waiting_size += size
        if not self._held and self._full():
            self._held = True
            self._hold(True)

    def _take_refused(self, tag: Any, message: Refusal) -> None:
        self._take(tag, self._commands.refused(message))

    def _begin(self, call: Call) -> None:
        self._reading = not call.handler.writes
        self._begun.append(call)
        self._commands.execute(self._caller, call)
        if self._begun[0] is call:
            self._advance()

    def _may_begin(self, call: Call) -> bool:
        if self._begun:
            # Small answers, no more than `MAX_PIPELINE`: the client's backlog is no concern.
            return call.handler.writes and not self._reading
        if self._client.above_high_watermark(self._config.max_backlog):
            self._look_again()
            return False
        self._slow_since = None
        return True

    def _advance(self) -> None:
        """Answer and begin what is next, and read on from the client when there is room again."""
        if self._advancing:
            return  # Something was done at once, below.
        self._advancing = True
        try:
            self._answer()
            while self._waiting and self._may_begin(self._waiting[0][0]):
                call, size = self._waiting.popleft()
                self._waiting_size -= size
                self._begin(call)
                self._answer()
        finally:
            self._advancing = False
        if self._held and not self._full():
            self._held = False
            if self._resting is None:
                self._read_on()

    def _answer(self) -> None:
        """Send the answers that are there, as far as they are next."""
        answers: list[tuple[Any, bytes]] = []
        while self._begun:
            call = self._begun[0]
            if not call.done():
                if call is not self._awaited:
                    self._awaited = call
                    call.when_done(self._advance)
                break
            self._begun.popleft()
            answer = encode(call.message)
            if len(answer) >= WEIGHED:
                self._caller.bucket.charge(weight(len(answer)))
            answers.append((call.tag, answer))
            if call.then is not None:
                self._send(answers)
                answers = []
                call.then()
        if answers:
            self._send(answers)

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


def estimated_size(call: Call) -> int:
    """The bytes that a command takes while it waits, about."""
    if call.command is None:
        return COMMAND
    fields = astuple(call.command)
    texts = sum(getsizeof(value) for value in fields if isinstance(value, str))
    return COMMAND + texts + sum(len(value) for value in fields if isinstance(value, Raw))
