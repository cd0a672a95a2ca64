"""Parses, authorizes, executes and answers commands, from whichever door they come.

This is the only place that turns an error into an answer. Every command gets an answer.
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
"""One in so many commands is timed, as timing each one would cost too much."""
REFUSED = Handler(writes=True)
"""The handler of a call that was refused when it was parsed. It reads nothing, so it need not wait
for the writes before it."""

log = logging.getLogger(__name__)


class Call(Struct, eq=False):
    """One command of a client, from its parsing to its answer."""

    commands: "Commands"
    handler: Handler
    command: Command | None = None
    """None where it was refused when it was parsed."""
    tag: Any = None
    """Identifies the command to its client."""
    message: Answer | Refusal | None = None
    """The answer, once the call is done."""
    then: Callable[[], None] | None = None
    """Called right after the answer has been sent."""
    change: Submitted | None = None
    """The change of the store that is under way, if the call is one."""
    began: float | None = None
    """When it began, if it is timed."""
    resume: Callable[[], None] | None = None

    def done(self) -> bool:
        """Whether the answer is there."""
        change = self.change
        if change is not None and change.done():
            self.change = None
            self.commands.conclude(self, change)
        return self.message is not None

    def when_done(self, resume: Callable[[], None]) -> None:
        """Call `resume` when `done` is worth another look."""
        self.resume = resume
        if self.change is not None:
            self.change.then(resume)

    def succeed(self, reply: Reply) -> None:
        """Complete it with a reply."""
        self.then = reply.then
        self._answer(reply.message)

    def fail(self, error: BaseException) -> None:
        """Complete it with the refusal that an error amounts to."""
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
        """A call of the command `name`, or of that in the payload's `route`. Where the caller may
        not give it now it is refused, and done."""
        try:
            caller.bucket.take(self._monotonic())
            command = self._checker.command(name, payload)
            caller.identity.check(command.name, command.room)
        except Exception as error:
            return self.refused(self.refusal(error))
        return Call(self, self._handlers.of(command), command)

    def parse_json(self, caller: Caller, event: str) -> Call | None:
        """`parse` an event as JSON, decoded in one step. None where it is not valid: then `parse`
        says what is wrong with it."""
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
        """The answer to a message that is no valid command; it counts for the rate like one."""
        try:
            bucket.take(self._monotonic())
        except RateLimited as limited:
            error = limited
        return self.refusal(error)

    def refuse_again(self, message: Refusal) -> Refusal:
        """Count one more command that gets the same refusal."""
        self._counts.refusals[message.error.code] += 1
        return message

    def execute(self, caller: Caller, call: Call) -> None:
        """Begin a call. Never raises: an error becomes its answer."""
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
        """Parse a command, execute it, and wait for its answer. Never raises."""
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
            # To explain it the store has to be asked, which takes a while.
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
        """The answer that an error amounts to; one that is no `CommandError` is logged."""
        if not isinstance(error, CommandError):
            log.error("a command failed", exc_info=error)
            error = broken()
        self._counts.refusals[error.code] += 1
        return refusal(error)

    def observe(self, began: float) -> None:
        """Record how long a timed command took."""
        self._counts.command_time.observe(self._monotonic() - began)


def wake(waiter: "asyncio.Future[None]") -> None:
    """Resolve a future, unless whoever waited was cancelled."""
    if not waiter.done():
        waiter.set_result(None)
