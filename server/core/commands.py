"""The one door behind all doors: parse a command, check who asks, carry it out, answer.

Whatever a client sends through Socket.IO, a plain WebSocket or HTTP comes here, and this is the
only place that turns an error into an answer. Every command gets one.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct

from server.access.rate_limits import TokenBucket
from server.contract.messages import Answer, Command, Refusal
from server.contract.validation import Checker
from server.core.handlers import Handler, Handlers
from server.core.replies import Caller, Reply, broken, refusal
from server.core.taskless import Taskless
from server.counters import Counts
from server.errors import CommandError, RateLimited
from server.store.interface import Submitted

TIMED = 16
"""One of so many commands is timed: to time each would be felt."""
REFUSED = Handler(writes=True)
"""Stands for the handler of what was refused when it was parsed: it may be answered among writes,
as it reads nothing."""

log = logging.getLogger(__name__)


class Call(Struct, eq=False):
    """One command of a client, from its parsing to its answer."""

    commands: "Commands"
    handler: Handler
    command: Command | None = None
    """None where it was refused when it was parsed."""
    tag: Any = None
    """What the client knows it by."""
    message: Answer | Refusal | None = None
    """The answer, once it is there."""
    then: Callable[[], None] | None = None
    """What is to happen right after the answer has been sent."""
    change: Submitted | None = None
    """What is waited for, where that is a change of the store."""
    began: float | None = None
    """When it began, where it is timed."""
    resume: Callable[[], None] | None = None

    def done(self) -> bool:
        """Whether the answer is there."""
        change = self.change
        if change is not None and change.done():
            self.change = None
            self.commands.conclude(self, change)
        return self.message is not None

    def when_done(self, resume: Callable[[], None]) -> None:
        """Call `resume` when it may be `done`."""
        self.resume = resume
        if self.change is not None:
            self.change.then(resume)

    def succeed(self, reply: Reply) -> None:
        """It was carried out in several steps."""
        self.then = reply.then
        self._answer(reply.message)

    def fail(self, error: BaseException) -> None:
        """It was not carried out."""
        self._answer(self.commands.refusal(error))

    def _answer(self, message: Answer | Refusal) -> None:
        self.message = message
        if self.began is not None:
            self.commands.observe(self.began)
        if self.resume is not None:
            self.resume()


class Commands:
    """Answers the commands of the protocol."""

    def __init__(
        self,
        handlers: Handlers,
        checker: Checker,
        counts: Counts,
        monotonic: Callable[[], float],
    ) -> None:
        """`monotonic` is a clock for rates, in seconds."""
        self._handlers = handlers
        self._checker = checker
        self._counts = counts
        self._monotonic = monotonic
        self._begun = 0

    def parse(self, caller: Caller, name: str | None, payload: Any) -> Call:
        """The command `name`, or that in the payload's `route`, if this caller may give it now; a
        call that is done where it may not."""
        try:
            caller.bucket.take(self._monotonic())
            command = self._checker.command(name, payload)
            caller.identity.check(command.name, command.room)
        except Exception as error:
            return self.refused(self.refusal(error))
        return Call(self, self._handlers.of(command), command)

    def parse_json(self, caller: Caller, event: str) -> Call | None:
        """`parse` an event as JSON, decoded in one step. None when that does not work and `parse`
        has to say what is wrong."""
        command = self._checker.event(event)
        if command is None:
            return None
        try:
            caller.bucket.take(self._monotonic())
            caller.identity.check(command.name, command.room)
        except CommandError as error:
            return self.refused(self.refusal(error))
        return Call(self, self._handlers.of(command), command)

    def refused(self, message: Refusal) -> Call:
        """A call that was refused when it was parsed."""
        return Call(self, REFUSED, message=message)

    def refuse(self, bucket: TokenBucket, error: CommandError) -> Refusal:
        """The answer to what is no command at all, and counts as one."""
        try:
            bucket.take(self._monotonic())
        except RateLimited as limited:
            error = limited
        return self.refusal(error)

    def refuse_again(self, message: Refusal) -> Refusal:
        """The answer to one more command that is refused in the same words."""
        self._counts.refusals[message.error.code] += 1
        return message

    def execute(self, caller: Caller, call: Call) -> None:
        """Begin to carry out a command. Never raises: what goes wrong is its answer."""
        handler, command = call.handler, call.command
        if command is None:
            return
        self._counts.commands[command.name] += 1
        self._begun += 1
        if not self._begun % TIMED:
            call.began = self._monotonic()
        try:
            if handler.submit is not None:
                call.change = handler.submit(caller, command)
            elif handler.run is not None:
                Taskless(handler.run(caller, command), call.succeed, call.fail)
        except Exception as error:
            call.fail(error)

    async def answer(self, caller: Caller, name: str | None, payload: Any) -> Answer | Refusal:
        """Parse a command, carry it out and wait for the answer. Never raises."""
        call = self.parse(caller, name, payload)
        self.execute(caller, call)
        while not call.done():
            woken = asyncio.get_running_loop().create_future()
            call.when_done(partial(wake, woken))
            await woken
        assert call.message is not None, "it is done"
        return call.message

    def conclude(self, call: Call, change: Submitted) -> None:
        """Answer a call whose change is durable, or was refused."""
        if change.error is not None:
            # The store knows more of why, but has to be asked.
            Taskless(self._handlers.outcome(change), call.succeed, call.fail)
            return
        try:
            message = self._handlers.told(change.result()[-1])
        except Exception as error:
            call.fail(error)
        else:
            call.message = message
            if call.began is not None:
                self.observe(call.began)

    def refusal(self, error: BaseException) -> Refusal:
        """The answer to what has failed so."""
        if not isinstance(error, CommandError):
            log.error("a command failed", exc_info=error)
            error = broken()
        self._counts.refusals[error.code] += 1
        return refusal(error)

    def observe(self, began: float) -> None:
        """A command that is timed has its answer."""
        self._counts.command_time.observe(self._monotonic() - began)


def wake(waiter: "asyncio.Future[None]") -> None:
    """End a wait, unless that has been given up."""
    if not waiter.done():
        waiter.set_result(None)
