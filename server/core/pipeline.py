"""One client's commands: executed and answered in their order.

Consecutive writes begin without waiting for each other, so that they share a commit; the store
decides them in that order. A read begins when all commands before it are done, and no command
begins before the read is done: a client always sees its own writes.
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
"""Commands that may be refused for their rate before reading from the client is paused."""
MOST_REST = 10.0
"""The most seconds for which reading from such a client is paused."""
COMMAND = 256
"""Estimated bytes of a command, not counting its texts."""
LOOK_AGAIN = 0.05
"""Seconds between two checks of a client that reads too slowly."""


class Pipeline:
    """The commands of one client that are under way or waiting."""

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
        """`send([(tag, answer), …])` sends answers as JSON; each tag is that of its command.
        `hold(True)` pauses reading from the client, `hold(False)` resumes it.
        """
        self._commands = commands
        self._caller = caller
        self._client = client
        self._config = config
        self._send = send
        self._hold = hold
        self._most = config.max_pipeline
        self._begun: deque[Call] = deque()
        # Commands that have not begun, each with its estimated size in bytes.
        self._waiting: deque[tuple[Call, int]] = deque()
        self._waiting_size = 0
        # Whether a read is under way.
        self._reading = False
        self._advancing = False
        # The call that resumes this pipeline when it is done: the first one under way.
        self._awaited: Call | None = None
        # Whether reading is paused because the pipeline is full.
        self._held = False
        # Resolved when the pipeline is no longer full.
        self._room: asyncio.Future[None] | None = None
        self._looking = False
        self._slow_since: float | None = None
        # The last refusal, while reading is paused because of the rate. And how many commands were
        # refused since the last pause.
        self._resting: Refusal | None = None
        self._owed = 0

    def feed(self, tag: Any, name: str | None, payload: Any) -> None:
        """Accept a decoded command: `name`, or that in the payload's `route`."""
        self._take(tag, self._commands.parse(self._caller, name, payload))

    def feed_json(self, tag: Any, event: str) -> bool:
        """Accept an event as JSON; false where it has to be decoded and come to `feed`."""
        if self._resting is not None:
            # Not even decoded: it was received before reading was paused.
            self._take_refused(tag, self._commands.refuse_again(self._resting))
            return True
        call = self._commands.parse_json(self._caller, event)
        if call is None:
            return False
        self._take(tag, call)
        return True

    def refuse(self, tag: Any, error: CommandError) -> None:
        """Accept a message that is no valid command, to be answered with `error`."""
        self._take_refused(tag, self._commands.refuse(self._caller.bucket, error))

    def waiting(self) -> int:
        """Estimated bytes of the commands that have not begun."""
        return self._waiting_size

    async def when_room(self) -> None:
        """Wait until more commands may be fed, or the client is gone."""
        while (self._full() or self._resting) and not self._client.gone:
            self._room = asyncio.get_running_loop().create_future()
            # Nothing notifies this of a client that is gone.
            await asyncio.wait([self._room], timeout=LOOK_AGAIN)

    async def when_answered(self) -> None:
        """Wait until all commands are answered, or the client is gone."""
        while (self._begun or self._waiting) and not self._client.gone:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_AGAIN)

    def _note_refusal(self, message: Answer | Refusal) -> None:
        """Pause reading from a client that exceeds its rate by far.

        To refuse a command takes almost as long as to execute it, and others wait meanwhile.
        """
        if isinstance(message, Refusal) and message.error.code == RateLimited.code:
            self._owed += 1
            if self._owed >= MANY_REFUSED and self._resting is None:
                self._resting = message
                self._hold(True)
                self._rest()

    def _rest(self) -> None:
        """Pause for as long as the refused commands would have taken at the allowed rate."""
        rate = self._config.rate_limit or self._config.rate_limit_address
        seconds, self._owed = min(self._owed / rate, MOST_REST), 0
        asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        """Resume reading, unless what had been received already exceeds the rate as well."""
        if self._owed >= MANY_REFUSED and not self._client.gone:
            self._rest()
            return
        self._resting = None
        if not self._full():
            self._read_on()

    def _read_on(self) -> None:
        """Resume reading."""
        self._hold(False)
        if self._room is not None:
            room, self._room = self._room, None
            room.set_result(None)

    def _full(self) -> bool:
        number = len(self._begun) + len(self._waiting)
        return number >= self._most or self._waiting_size > self._config.max_message

    def _take(self, tag: Any, call: Call) -> None:
        """Begin a call now, or queue it until it is its turn."""
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
            # Writes have small answers, and `MAX_PIPELINE` bounds them: the backlog is no concern.
            return call.handler.writes and not self._reading
        if self._client.above_high_watermark(self._config.max_backlog):
            self._look_again()
            return False
        self._slow_since = None
        return True

    def _advance(self) -> None:
        """Send the answers that are next, begin what may begin, and resume reading."""
        if self._advancing:
            return  # A call below was done at once.
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
        """Send answers in the order of the commands, up to the first call that is not done."""
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
        """Check again soon whether the client reads its answers; cut it after `SLOW_TIMEOUT`."""
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
    """Estimated bytes of a call that waits."""
    if call.command is None:
        return COMMAND
    fields = astuple(call.command)
    texts = sum(getsizeof(value) for value in fields if isinstance(value, str))
    return COMMAND + texts + sum(len(value) for value in fields if isinstance(value, Raw))
