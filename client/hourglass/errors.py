"""Exit codes, and why a command is not carried out."""

from typing import Any

Json = dict[str, Any]


class Exit:
    """The exit codes, but for those of a command that ran."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3  # conflict, not_running, too_many, invalid
    NOT_LET_IN = 4  # unauthorized, forbidden
    AWAY = 5  # no connection, no answer, unavailable, rate_limited
    # Of `run` alone. Above what commands use, and as in timeout(1) and the shell.
    CONFLICT = 122
    KILLED = 123
    TIMED_OUT = 124
    NOT_RUN = 125
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127


EXITS = {"unauthorized": Exit.NOT_LET_IN, "forbidden": Exit.NOT_LET_IN}
EXITS |= {"unavailable": Exit.AWAY, "rate_limited": Exit.AWAY, "internal": Exit.FAILED}


class SettingsError(Exception):
    """A setting cannot be used; the message names it."""


def shell_code(code: int) -> int:
    """An exit code as shells have it: of a signal, which is below 0 here, 128 and its number."""
    return code if code >= 0 else 128 - code


class Away(Exception):
    """The server cannot be reached, or has gone silent; the message says which."""

    exit = Exit.AWAY


class Refused(Exception):
    """The server said no; `code`, `field` and `job` as in its answer."""

    def __init__(self, answer: Json) -> None:
        error = answer.get("error") or {}
        self.answer = answer
        self.code: str = error.get("code", "refused")
        self.field: str | None = error.get("field")
        self.job: Json | None = answer.get("job")
        super().__init__(error.get("message", "the server refused, and did not say why"))

    @classmethod
    def here(cls, code: str, message: str, job: Json | None = None) -> "Refused":
        """What the server would say, if it were asked."""
        return cls({"error": {"code": code, "message": message}, "job": job})

    @property
    def exit(self) -> int:
        return EXITS.get(self.code, Exit.REFUSED)

    @property
    def unknown(self) -> bool:
        """Whether even the server cannot tell that nothing was done."""
        return bool((self.answer.get("error") or {}).get("unknown"))

    @property
    def passing(self) -> bool:
        """Whether it is worth trying again."""
        return self.code in ("unavailable", "rate_limited", "internal")
