"""The feed: one stream in Redis of all that the nodes have to hear, read on from a position."""

import asyncio
from typing import NamedTuple

from server.store.redis.connections import ReconnectingConnection, RedisEndpoint

AT_ONCE = 200
"""Entries that are read in one go, so that the loop gets to its other work."""


class Item(NamedTuple):
    """An entry of the feed."""

    number: int
    kind: str
    """The name of an event, `progress`, `presence`, `printed`, `emptied`, `beat` or `gone`."""
    room: str
    seq: int
    due: bytes
    """When the next job was due as this came into the feed; empty when none was."""
    body: bytes


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
    return Item(number, kind.decode(), room.decode(), int(seq), due, body)
