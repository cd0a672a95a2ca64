"""A WebSocket client of which every byte is the test's."""

import asyncio
import base64
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSMsgType

from server.app import App
from tests.support.clients import PATIENCE

KEY = base64.b64encode(b"0123456789abcdef").decode()
REQUEST = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    f"Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
).encode()
"""A browser's handshake, which offers to compress."""


class Wire:
    """A raw connection: every byte is the test's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> None:
        """Send one frame, masked as a client's is."""
        self.writer.write(masked(opcode, payload, fin=fin, rsv=rsv))

    async def receive(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame."""
        async with asyncio.timeout(PATIENCE):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(size)

    async def text(self) -> str:
        """The next text."""
        opcode, payload = await self.receive()
        assert opcode == WSMsgType.TEXT, (opcode, payload)
        return payload.decode()

    async def closed_with(self) -> int:
        """The code that the server closes with; it is gone after that."""
        opcode, payload = await self.receive()
        assert opcode == WSMsgType.CLOSE, (opcode, payload)
        self.send(WSMsgType.CLOSE, payload[:2])
        async with asyncio.timeout(PATIENCE):
            assert await self.reader.read() == b""
        return int.from_bytes(payload[:2], "big")


def masked(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    """One frame of a client: RFC 6455, section 5.2."""
    mask, size = os.urandom(4), len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 2**16:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


@asynccontextmanager
async def wire(
    app: App, auth: str | None = '{"rooms":[]}', *, buffer: int = 0, address: str = "127.0.0.1"
) -> AsyncIterator[Wire]:
    """A raw connection that has said hello and was let in; not yet where `auth` is None.

    `buffer` is how many bytes the kernel keeps for it unread, 0 as many as it likes; `address` is
    where it comes from, of all those of this machine.
    """
    door = socket.socket()
    if buffer:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    door.bind((address, 0))
    door.connect(("127.0.0.1", int(app.url.rsplit(":", 1)[1])))
    reader, writer = await asyncio.open_connection(sock=door)
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"permessage-deflate" not in head
    connection = Wire(reader, writer)
    assert (await connection.text()).startswith("0{")
    if auth is not None:
        connection.send(WSMsgType.TEXT, b"40" + auth.encode())
        assert (await connection.text()).startswith("40{")
    try:
        yield connection
    finally:
        writer.close()


@asynccontextmanager
async def plain(
    app: App, path: str = "/ws?rooms=", *, early: bytes = b"", buffer: int = 0
) -> AsyncIterator[Wire]:
    """A raw connection to the plain door; `early` comes together with its handshake.

    `buffer` is that of `wire`.
    """
    door = socket.socket()
    if buffer:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    door.connect(("127.0.0.1", app.port))
    reader, writer = await asyncio.open_connection(sock=door)
    handshake = REQUEST.replace(b"/socket.io/?EIO=4&transport=websocket", path.encode())
    writer.write(handshake + early)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
