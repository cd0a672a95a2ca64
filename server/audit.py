"""Who has changed which job, from where: counted, and written to the log of the process."""

from collections.abc import Callable

from msgspec import Struct

from server.contract.messages import Finished, Killed, LogEvent, Via
from server.counters import Counts
from server.store.interface import Entry


class Actor(Struct, frozen=True):
    """Who does something to a job, through which door and from which address."""

    name: str
    via: Via
    address: str | None = None
    proven: bool = False
    """Whether a token says who this is, so that jobs can be its own."""

    @property
    def owner(self) -> str | None:
        """Who must own the jobs that this one reports of; None where a name proves nothing."""
        return self.name if self.proven else None


SERVER = Actor("server", "server")
"""Who ends the jobs that are due."""


class AuditRecord(Struct, omit_defaults=True):
    """One change of a job, as the log of the process shows it."""

    at: float
    event: str
    room: str
    connid: str
    run: str
    by: str
    via: Via
    address: str | None = None
    outcome: str | None = None
    reason: str | None = None
    late: bool = False


class AuditLog:
    """The changes that this server has made."""

    def __init__(self, counts: Counts, tell: Callable[[AuditRecord], None] | None = None) -> None:
        """`tell` hears of each change; it must not wait."""
        self._changes = counts.changes
        self._tell = tell

    def made(self, entries: list[Entry], actor: Actor) -> None:
        """These entries of the log are what this actor has done."""
        for entry in entries:
            event = entry.event
            outcome = event.outcome if type(event) is Finished else ""
            self._changes[event.name, outcome] += 1
            if self._tell is not None:
                self._tell(told(event, actor))


def told(event: LogEvent, actor: Actor) -> AuditRecord:
    """What the log of the process shows of an event."""
    return AuditRecord(
        at=event.at,
        event=event.name,
        room=event.room,
        connid=event.connid,
        run=event.run,
        by=actor.name,
        via=actor.via,
        address=actor.address,
        outcome=event.outcome if isinstance(event, Finished) else None,
        reason=event.reason if isinstance(event, Killed) else None,
        late=isinstance(event, Finished) and event.late is True,
    )
