"""The answer to a poll, where much of it is for others as well."""

import asyncio
from collections.abc import Iterable, Iterator

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from engineio.packet import Packet
from multidict import CIMultiDict

from server.budget import Shared
from server.transport.packets import SharedPacket

SEPARATOR = "\x1e"
"""Stands between the packets of a payload: Engine.IO 4."""

PORTION = 2**14
"""Bytes of a response that are written at once, where it is not copied."""


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
