"""What can be wrong with a command: one class for each code of the protocol.

Code below the doors raises these; `commands.py` alone turns them into answers.
"""

from typing import Any


class CommandError(Exception):
    """A command that was refused; nothing was changed."""

    code = "internal"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        job: Any = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.job = job
        self.retry_after = retry_after


class Invalid(CommandError):
    """A field is missing, of the wrong type or out of its range; `field` names it."""

    code = "invalid"


class TooLarge(Invalid):
    """The message is longer than `MAX_MESSAGE`."""


class UnknownRoute(CommandError):
    """There is no command of that name, or the name and the `route` contradict each other."""

    code = "unknown_route"


class Conflict(CommandError):
    """The connid is running already; `job` is the running one."""

    code = "conflict"


class NotRunning(CommandError):
    """No such run is running; `job` is the last ended one of that connid where it is known."""

    code = "not_running"


class Unauthorized(CommandError):
    """There is no token, or it is not valid."""

    code = "unauthorized"


class Forbidden(CommandError):
    """The token is valid, but not for that command or room."""

    code = "forbidden"


class RateLimited(CommandError):
    """Too many commands from this client; `retry_after` is in seconds."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)


class TooMany(CommandError):
    """A cap on running jobs, rooms, memberships or connections is reached."""

    code = "too_many"


class Unavailable(CommandError):
    """The store could not make the change durable; it has not happened, unless it is `unknown`
    whether it has: the store was lost after it had been asked."""

    code = "unavailable"

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown
