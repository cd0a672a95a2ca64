"""The audit log: who has changed which job, from where. Counted, and told to the process log."""

import logging
from collections.abc import Callable

from msgspec import Struct

from server.access.actor import Actor
from server.contract.messages import Amended, Extended, Finished, Killed, LogEvent, Via
from server.counters import Counts
from server.store.interface import Entry

log = logging.getLogger(__name__)


class AuditRecord(Struct, omit_defaults=True):
    """One change of a job, as the process log shows it."""

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
    deadline: float | None = None
    """Until when the job may run, where that was moved."""


class AuditLog:
    """Records the changes that this server has made."""

    def __init__(
        self, counts: Counts, on_record: Callable[[AuditRecord], None] | None = None
    ) -> None:
        """`on_record` must not wait."""
        self._changes = counts.changes
        self._on_record = on_record

    def record(self, entries: list[Entry], actor: Actor) -> None:
        """Record that `actor` has made these entries of the log."""
        for entry in entries:
            event = entry.event
            outcome = event.outcome if isinstance(event, Finished | Amended) else ""
            self._changes[event.name, outcome] += 1
            if self._on_record is not None:
                try:
                    self._on_record(recorded(event, actor))
                except Exception:  # The change has been made, and its answer must go out.
                    log.exception("a change could not be recorded")


def recorded(event: LogEvent, actor: Actor) -> AuditRecord:
    """The record of an event that `actor` has caused."""
    return AuditRecord(
        at=event.at,
        event=event.name,
        room=event.room,
        connid=event.connid,
        run=event.run,
        by=actor.name,
        via=actor.via,
        address=actor.address,
        outcome=event.outcome if isinstance(event, Finished | Amended) else None,
        reason=event.reason if isinstance(event, Killed) else None,
        late=isinstance(event, Finished) and event.late is True,
        deadline=event.deadline if isinstance(event, Extended) else None,
    )
