"""The answer to a command, and who gave it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from msgspec import Raw, Struct

from server.access.actor import Actor
from server.access.auth import Identity
from server.access.rate_limits import TokenBucket
from server.contract.messages import Answer, Closing, Frame, Job, Problem, Refusal, Via, encode
from server.core.subscribers import Client
from server.errors import CommandError, Unavailable


@dataclass(slots=True)
class Caller:
    """Who gives commands: their rights, door, rate, and connection, if they have one."""

    identity: Identity
    via: Via
    bucket: TokenBucket
    client: Client | None = None
    address: str | None = None
    actor: Actor = field(init=False)

    def __post_init__(self) -> None:
        identity = self.identity
        self.actor = Actor(identity.name, self.via, self.address, identity.proven)


@final
class Reply(Struct, frozen=True):
    """The answer to a command; `then` is called right after it has been sent."""

    message: Answer
    then: Callable[[], None] | None = None


def broken() -> CommandError:
    """The error for a bug of the server."""
    return CommandError("internal error: the server's log has the cause")


def farewell(error: CommandError) -> Frame:
    """The event that tells a client why its connection ends."""
    return Frame(Closing.name, encode(Closing(error.code, error.message)))


def refusal(error: CommandError) -> Refusal:
    """The answer to a command that was refused."""
    unknown = isinstance(error, Unavailable) and error.unknown
    problem = Problem(error.code, error.message, error.field, error.retry_after, unknown)
    return Refusal(ok=False, error=problem, job=error.job)


def with_remaining(job: Job, now: float) -> Raw:
    """A running job with the seconds that it has left at `now`, never below 0."""
    return Raw(b'%b,"remaining":%.3f}' % (encode(job)[:-1], max(0.0, job.deadline - now)))
