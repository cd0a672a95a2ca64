"""The feed: one stream in Redis of all that the nodes have to hear, read on from a position."""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from server.store.redis.connections import ReconnectingConnection
from server.store.redis.endpoint import RedisEndpoint

AT_ONCE = 200
"""Entries that are read in one go, so that the loop gets to its other work."""


class Item(Struct, frozen=True):
    """An entry of the feed; what it says is decoded by who needs it."""

    number: int
    due: bytes
    """When the next job was due as this came into the feed; empty when none was."""


class RoomItem(Item, frozen=True):
    """An entry about one room."""

    room: str


class Logged(RoomItem, frozen=True):
    """An event was appended to the log of a room."""

    seq: int
    name: str
    body: bytes


class Reported(RoomItem, frozen=True):
    """A job has reported; the log of its room stands at `seq`."""

    seq: int
    body: bytes


class Present(RoomItem, frozen=True):
    """Who of a node's clients is in a room."""

    node: str
    body: bytes


class PrintedTo(RoomItem, frozen=True):
    """A job has printed something, after so many characters."""

    connid: str
    run: str
    offset: int


class Evicted(Item, frozen=True):
    """Rooms were evicted, and the floor is higher."""

    rooms: frozenset[str]
    floor: int


class Beat(Item, frozen=True):
    """A node has given its sign of life of that number, at that time."""

    node: str
    count: int
    at: float


class Gone(Item, frozen=True):
    """A node has left, or is held to be dead."""

    node: str


class Missed(Exception):
    """Entries of the feed are gone that have not been read."""


class Feed:
    """Reads the feed on a connection of its own."""

    def __init__(self, endpoint: RedisEndpoint, key: str, timeout: float, block: float) -> None:
        """`block` is how many seconds to wait for something new."""
        self.key = key
        self.position = 0
        self.last = b""
        """The entry at the position, as it was read."""
        self.line = ReconnectingConnection(endpoint, timeout)
        self._timeout = timeout
        self._block = block

    async def read(self) -> list[Item]:
        """The next entries; none when nothing is new for a while. Raises `Missed`, and what a
        connection fails with."""
        connection = await self.line.open()
        block, after = int(self._block * 1000) or 1, f"{self.position}-0"
        command = ("XREAD", "COUNT", AT_ONCE, "BLOCK", block, "STREAMS", self.key, after)
        async with asyncio.timeout(self._timeout + self._block):
            await self.line.send([command])
            reply = await connection.read_response()
        self.line.worked()
        if not reply:
            return []
        ((_, entries),) = reply
        items: list[Item] = []
        for id, fields in entries:
            number = int(id.partition(b"-")[0])
            if number != self.position + 1:
                if items:
                    break  # What comes before the hole counts.
                raise Missed(f"entry {number} of the feed does not follow {self.position}")
            self.position, self.last = number, fields[1]
            items.append(parse(number, fields[1]))
        return items


def parse(number: int, text: bytes) -> Item:
    """An entry from its number and text."""
    head, _, body = text.partition(b"\n")
    kind, room, seq, due = head.split(b" ")
    if make := MAKERS.get(kind):
        return make(number, due, room.decode(), int(seq), body)
    return Logged(number, due, room.decode(), int(seq), kind.decode(), body)


def _reported(number: int, due: bytes, room: str, seq: int, body: bytes) -> Reported:
    return Reported(number, due, room, seq, body)


def _present(number: int, due: bytes, room: str, seq: int, body: bytes) -> Present:
    node, _, presence = body.partition(b" ")
    return Present(number, due, room, node.decode(), presence)


def _printed(number: int, due: bytes, room: str, seq: int, body: bytes) -> PrintedTo:
    offset, run, connid = body.decode().split(" ", 2)
    return PrintedTo(number, due, room, connid, run, int(offset))


def _evicted(number: int, due: bytes, room: str, seq: int, body: bytes) -> Evicted:
    floor, *rooms = body.decode().split(" ")
    return Evicted(number, due, frozenset(rooms), int(floor))


def _beat(number: int, due: bytes, room: str, seq: int, body: bytes) -> Beat:
    node, count, at = body.decode().split(" ")
    return Beat(number, due, node, int(count), float(at))


def _gone(number: int, due: bytes, room: str, seq: int, body: bytes) -> Gone:
    return Gone(number, due, body.decode())


MAKERS: dict[bytes, Callable[[int, bytes, str, int, bytes], Item]] = {
    b"progress": _reported,
    b"presence": _present,
    b"printed": _printed,
    b"emptied": _evicted,
    b"beat": _beat,
    b"gone": _gone,
}
"""What each kind of entry is; any other is the name of an event of the log."""
