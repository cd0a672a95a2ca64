"""What waits for the polls of a client of long polling."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from engineio.packet import MESSAGE, Packet

from server.budget import LITTLE, Shared
from server.transport.frames import Prepared
from server.transport.packets import SharedPacket, packet_size
from server.transport.shared_response import SharedResponse

MOST_POLLED = 16
"""Packets that one poll is answered: clients on python-engineio leave where there are more."""


class ByteQueue(asyncio.Queue[Any]):
    """What waits for the next poll of a long-polling client, counted in bytes."""

    polled = False
    """Whether a poll is under way, and how many packets it may still be answered."""
    room = 0

    def __init__(self, grew: Callable[[int], None]) -> None:
        """`grew` is told of so many more bytes that wait."""
        super().__init__()
        self.size = 0
        self.since = 0.0
        """The time since when something has waited."""
        self._grew = grew
        # What is in here and is for others as well.
        self._shared: deque[Shared] = deque()
        self.response: SharedResponse | None = None
        """The answer to a poll that is being written, where it has something for others as well."""

    @property
    def shared(self) -> list[Shared]:
        """What is held for others as well."""
        written = self.response.shared if self.response is not None else ()
        return [*self._shared, *written]

    @property
    def own(self) -> int:
        """How many bytes are held for this client alone."""
        return self.size - sum(map(len, self._shared))

    def post(self, message: Prepared) -> None:
        """Queue a prepared message."""
        self.put_nowait(message.packet)

    def say(self, *packets: bytes) -> None:
        """Queue packets of Socket.IO."""
        for text in packets:
            self.put_nowait(Packet(MESSAGE, text.decode()))

    def get_nowait(self) -> Any:
        """The next packet; a poll that has been given enough finds none."""
        if self.polled:
            if self.room == 0:
                raise asyncio.QueueEmpty
            self.room -= 1
        return super().get_nowait()

    def _put(self, item: Any) -> None:
        if not self.size:
            self.since = asyncio.get_running_loop().time()
        size = packet_size(item)
        self.size += size
        if isinstance(item, SharedPacket):
            self._shared.append(item.body)
        elif self.size > LITTLE:
            self._grew(size)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self.size -= packet_size(item)
        if isinstance(item, SharedPacket):
            self._shared.popleft()
        return item
