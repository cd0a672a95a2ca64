"""What this server has changed, until it has heard the event of it in the feed."""

from msgspec import Struct

from server.store.interface import Entry, Submitted


class PendingAck(Struct, eq=False):
    """A change that is made, and is answered when the feed has come to its number."""

    number: int
    completion: Submitted
    entries: list[Entry]
    deadline: float

    def resolve(self) -> None:
        """Answer it."""
        self.completion.resolve(self.entries)
