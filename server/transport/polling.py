"""What waits for the polls of a client of long polling."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

from engineio.async_socket import AsyncSocket
from engineio.exceptions import UnknownPacketError
from engineio.packet import CLOSE, MESSAGE, PONG, Packet

from server.budget import LITTLE
from server.transport.frames import Prepared

SEPARATOR = "\x1e"
"""Stands between the packets of a payload: Engine.IO 4."""

MOST_PACKETS = 20_000
"""Packets that one POST may have; to take them apart keeps all others waiting."""

MOST_POLLED = 16
"""Packets that one poll is answered: clients on python-engineio leave where there are more."""

TURN = 16
"""Packets of a POST that are taken before it is the turn of others."""


class Undecoded:
    """Decodes nothing, in the place of the module `json`."""

    @staticmethod
    def loads(text: str) -> Any:
        """Raises the `ValueError` after which python-engineio takes a text as it is."""
        raise ValueError


class TextPacket(Packet):
    """A packet of a client. Packets of Socket.IO are texts, whatever they look like."""

    json = Undecoded


def decode_payload(text: str) -> Iterator[Packet]:
    """The packets of a POST, one by one: they may be many. Raises `ValueError` where there are too
    many, or one is none, and `UnknownPacketError` for one that no client of long polling sends.
    """
    if text.startswith("d="):  # A form, for JSONP.
        text = parse_qs(text).get("d", [""])[0]
    parts = text.split(SEPARATOR, MOST_PACKETS) if text else []
    if len(parts) > MOST_PACKETS:
        raise ValueError("too many packets")
    for part in parts:
        packet = TextPacket(encoded_packet=part)
        if packet.packet_type not in (CLOSE, PONG, MESSAGE):
            raise UnknownPacketError
        yield packet


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
        size = _size(item)
        self.size += size
        if self.size > LITTLE:
            self._grew(size)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self.size -= _size(item)
        return item


def posts_of(socket: AsyncSocket) -> asyncio.Lock:
    """Held while a POST of a session is read and taken: the next one is only read after it."""
    lock: asyncio.Lock | None = getattr(socket, "posts", None)
    if lock is None:
        lock = socket.posts = asyncio.Lock()
    return lock


def _size(packet: Any) -> int:
    data = getattr(packet, "data", None)
    return len(data) if isinstance(data, str | bytes) else 16
