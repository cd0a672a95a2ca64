"""The receivers of events: one client, or a group of them. Each door implements both."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from server.budget import SHARED, Shared
from server.contract.messages import Frame, Snapshot


class Client(ABC):
    """A connection that receives events, whatever its door."""

    name: str

    def __init__(self, name: str) -> None:
        self.name = name
        self.rooms: set[str] = set()
        self.watched: set[tuple[str, str]] = set()
        self.gone = False
        # The rooms in which it is lagging, and the last seq that it was sent there.
        self.behind: dict[str, int] = {}
        self.slow_since: float | None = None
        # Bytes of snapshots and missed events that are exempt from the high watermark.
        self._granted = 0

    def send_exempt(self, frame: Frame) -> None:
        """Queue an event that the client needs to catch up, however much is queued already."""
        self._granted += len(frame.body)
        self.send(frame)

    def send_snapshot(self, head: bytes, state: Shared) -> None:
        """Queue a snapshot, however much is queued; `state` is its end, which many may be sent."""
        self._granted += len(head) + len(state)
        if len(state) <= SHARED:
            self.send(Frame(Snapshot.name, head + state.data))
        else:
            self.send_shared(Snapshot.name, head, state)

    def above_high_watermark(self, max_backlog: int) -> bool:
        """Whether more than `max_backlog` bytes are queued, not counting what is exempt."""
        backlog = self.backlog()
        if backlog <= max_backlog:
            self._granted = 0
        return backlog > max_backlog + self._granted

    @abstractmethod
    def send(self, frame: Frame) -> None:
        """Queue an event for the client; never waits."""

    @abstractmethod
    def send_shared(self, name: str, head: bytes, body: Shared) -> None:
        """Queue an event of which all but the head is held once for many clients."""

    @abstractmethod
    def backlog(self) -> int:
        """Bytes that are queued for the client and not yet handed to the kernel."""

    @abstractmethod
    def drop(self) -> None:
        """Cut the connection without a close handshake, as a broken network would."""


class Group(ABC):
    """Clients that keep up, so that each event is written to all of them at once."""

    @abstractmethod
    def add(self, client: Client) -> bool:
        """Add a client; false where it is lagging, or came through another door."""

    @abstractmethod
    def discard(self, client: Client) -> None:
        """Remove a client; nothing happens where it is no member."""

    @abstractmethod
    def send(self, frame: Frame) -> None:
        """Queue an event for all; never waits."""


NewGroup = Callable[[Callable[[Client], None]], Group]
"""Makes an empty group. It calls the function with each client that it removes for lagging."""
