"""What waits for the polls of a client of long polling."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from engineio.async_socket import AsyncSocket
from engineio.exceptions import EngineIOError, UnknownPacketError
from engineio.packet import CLOSE, MESSAGE, PONG, Packet
from multidict import CIMultiDict

from server.budget import LITTLE, Shared
from server.transport.frames import Prepared, SharedPacket

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

PORTION = 2**14
"""Bytes of a response that are written at once, where it is not copied."""

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
        size = _size(item)
        self.size += size
        if isinstance(item, SharedPacket):
            self._shared.append(item.body)
        elif self.size > LITTLE:
            self._grew(size)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self.size -= _size(item)
        if isinstance(item, SharedPacket):
            self._shared.popleft()
        return item


class SharedResponse(web.StreamResponse):
    """The answer to a poll of which the most part is not copied, but for little at a time."""

    def __init__(self, packets: Iterable[Packet], headers: Iterable[tuple[str, str]]) -> None:
        super().__init__(headers=CIMultiDict(headers))
        self._parts = list(payload_parts(packets))
        self.shared = [part for part in self._parts if isinstance(part, Shared)]
        self.content_length = sum(map(len, self._parts))

    def cut(self) -> None:
        """Cut the connection that it is written to."""
        if self._req is not None and self._req.transport is not None:
            self._req.transport.abort()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=PORTION)
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """Write all of it; nothing where that has been done."""
        parts, self._parts = self._parts, []
        assert self._payload_writer is not None
        for part in parts:
            view = part.data if isinstance(part, Shared) else memoryview(part)
            for start in range(0, len(view), PORTION):
                await self.write(view[start : start + PORTION])
                await self._payload_writer.drain()
                await asyncio.sleep(0)
        await super().write_eof(data)


def payload_parts(packets: Iterable[Packet]) -> Iterator[bytes | Shared]:
    """The payload of these packets, for long polling, with what is shared as it is."""
    between = b""
    for packet in packets:
        if isinstance(packet, SharedPacket):
            yield between + packet.head
            yield packet.body
            yield packet.tail
        else:
            yield between + packet.encode(b64=True).encode()
        between = SEPARATOR.encode()


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
    if isinstance(packet, SharedPacket):
        return len(packet)
    data = getattr(packet, "data", None)
    if isinstance(data, str) and not data.isascii():
        return 4 * len(data)
    return len(data) if isinstance(data, str | bytes) else 16
