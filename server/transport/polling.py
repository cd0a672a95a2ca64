"""What waits for the polls of a client of long polling."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from engineio.async_socket import AsyncSocket
from engineio.exceptions import EngineIOError, UnknownPacketError
from engineio.packet import CLOSE, MESSAGE, PONG, Packet

from server.budget import LITTLE
from server.transport.frames import Prepared

SEPARATOR = "\x1e"
"""Stands between the packets of a payload: Engine.IO 4."""

MOST_PACKETS = 20_000
"""Packets that one POST may have; to take them apart keeps all others waiting."""

MOST_POSTS = 16
"""POSTs of a session that may be under way: clients wait for the answer to one before the next."""

POSTED = 2
"""How often a POST is in memory while it is taken, about: as a text, and as the packets in it."""

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


class Posts(asyncio.Lock):
    """The POSTs of a session. Held while one is read and taken: the next is only read after it."""

    def __init__(self) -> None:
        super().__init__()
        self._requests: list[web.Request] = []
        self.since = 0.0
        """The time since when some are under way."""

    @contextmanager
    def under_way(self, request: web.Request) -> Iterator[None]:
        """Count a POST. Raises `TooManyPosts` where too many are under way."""
        if len(self._requests) >= MOST_POSTS:
            raise TooManyPosts
        if not self._requests:
            self.since = asyncio.get_running_loop().time()
        self._requests.append(request)
        try:
            yield
        finally:
            self._requests.remove(request)

    @property
    def size(self) -> int:
        """Bytes of those whose connections are gone, and count for them no more."""
        lost = (request.content for request in self._requests if request.transport is None)
        return POSTED * sum(content.total_bytes for content in lost)


class TooManyPosts(EngineIOError):
    """Clients send one POST after the other."""


def posts_of(socket: AsyncSocket) -> Posts:
    """The POSTs of a session."""
    posts: Posts | None = getattr(socket, "posts", None)
    if posts is None:
        posts = socket.posts = Posts()
    return posts


def _size(packet: Any) -> int:
    """The bytes that a packet takes, at most."""
    data = getattr(packet, "data", None)
    if isinstance(data, str) and not data.isascii():
        return 4 * len(data)
    return len(data) if isinstance(data, str | bytes) else 16
