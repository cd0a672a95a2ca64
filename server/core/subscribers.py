"""Who hears events, one by one and many at once: what each door has to be able to do."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from server.contract.messages import Frame


class Client(ABC):
    """A connection that can hear events, whatever its door."""

    name: str

    def __init__(self, name: str) -> None:
        self.name = name
        self.rooms: set[str] = set()
        self.watched: set[tuple[str, str]] = set()
        self.gone = False
        # The last seq of each room that was sent before the client became too slow to be sent more.
        self.behind: dict[str, int] = {}
        self.slow_since: float | None = None
        # Bytes of snapshots and missed events that it was sent at once, beyond any bound.
        self._granted = 0

    def send_exempt(self, frame: Frame) -> None:
        """Queue an event that the client needs to be up to date, however much is queued."""
        self._granted += len(frame.body)
        self.send(frame)

    def above_high_watermark(self, max_backlog: int) -> bool:
        """Whether more than that is queued, what it was granted not counted."""
        backlog = self.backlog()
        if backlog <= max_backlog:
            self._granted = 0
        return backlog > max_backlog + self._granted

    @abstractmethod
    def send(self, frame: Frame) -> None:
        """Queue an event for the client; never waits."""

    @abstractmethod
    def backlog(self) -> int:
        """Bytes that are queued for the client and not yet on their way."""

    @abstractmethod
    def drop(self) -> None:
        """Cut the connection without a word, as a broken network would."""


class Group(ABC):
    """Clients that keep up, and are sent the same all at once."""

    @abstractmethod
    def add(self, client: Client) -> bool:
        """Send a client all that comes from now on; false where it is slow, or of another door."""

    @abstractmethod
    def discard(self, client: Client) -> None:
        """Send a client no more, whether it was in here or not."""

    @abstractmethod
    def send(self, frame: Frame) -> None:
        """Queue an event for all; never waits."""


NewGroup = Callable[[Callable[[Client], None]], Group]
"""Makes an empty group that tells the function who was taken out of it for being slow."""
