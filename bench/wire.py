"""WebSocket clients that cost next to nothing, so that what is measured is the server.

A command is one frame with a zero mask, built beforehand, and its answer is not parsed. Only what
the server of this project sends is understood: frames in one piece, no compression.
"""

import asyncio
import base64
import json
import os
from collections.abc import Callable
from itertools import count
from typing import Any

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Wire(asyncio.Protocol):
    """One WebSocket; `on_message(payload)` is called for each text frame."""

    path = "/ws?rooms={rooms}"

    def __init__(self, rooms: str) -> None:
        """`rooms` are the names to join, with commas between them; empty for none."""
        self.rooms = rooms
        self.ready = asyncio.get_running_loop().create_future()
        self.on_message: Callable[[bytes], None] = lambda payload: None
        self.closing = False
        self._buffer = bytearray()
        self._open = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        host = "{}:{}".format(*transport.get_extra_info("peername"))
        lines = [
            f"GET {self.path.format(rooms=self.rooms)} HTTP/1.1",
            f"Host: {host}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        ]
        transport.write("\r\n".join([*lines, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open and not self._read_head():
            return
        while (found := parse(self._buffer)) is not None:
            opcode, payload, size = found
            del self._buffer[:size]
            if opcode == TEXT:
                self.text_received(payload)
            elif opcode == PING:
                self.transport.write(frame(payload, PONG))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closing:
            raise ConnectionError("the server has closed a connection of the benchmark")

    def text_received(self, payload: bytes) -> None:
        self.on_message(payload)

    def opened(self) -> None:
        """The handshake is over."""
        self.ready.set_result(None)

    @staticmethod
    def command(fields: dict[str, Any]) -> bytes:
        """The frame of the command `request` with these fields."""
        return frame(json.dumps({"route": "request", "id": 1, **fields}).encode())

    def close(self) -> None:
        self.closing = True
        self.transport.abort()

    def _read_head(self) -> bool:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(f"no WebSocket: {bytes(head)!r}")
        self._buffer = rest
        self._open = True
        self.opened()
        return True


class SocketIO(Wire):
    """The same through Socket.IO."""

    path = "/socket.io/?EIO=4&transport=websocket"

    def opened(self) -> None:
        rooms = [room for room in self.rooms.split(",") if room]
        self.transport.write(frame(b"40" + json.dumps({"rooms": rooms}).encode()))

    def text_received(self, payload: bytes) -> None:
        if payload == b"2":
            self.transport.write(frame(b"3"))
        elif payload.startswith(b"4") and self.ready.done():
            self.on_message(payload)
        elif payload.startswith(b"40"):
            self.ready.set_result(None)

    @staticmethod
    def command(fields: dict[str, Any]) -> bytes:
        return frame(b"421" + json.dumps(["request", fields]).encode())


DOORS: dict[str, type[Wire]] = {"WebSocket": Wire, "Socket.IO": SocketIO}


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A client's frame; with a mask of zeros the payload stays as it is."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def parse(buffer: bytearray) -> tuple[int, bytes, int] | None:
    """The first frame: its opcode, payload and size in `buffer`; None while it is not all there."""
    if len(buffer) < 2:
        return None
    size, start = buffer[1], 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(buffer[2:start], "big")
    if len(buffer) < start + size:
        return None
    return buffer[0] & 15, bytes(buffer[start : start + size]), start + size


async def connect(door: type[Wire], port: int, rooms: str = "") -> Wire:
    """A connected client."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: door(rooms), "127.0.0.1", port)
    await asyncio.wait_for(client.ready, 20)
    return client


async def connect_many(door: type[Wire], port: int, number: int) -> list[Wire]:
    """Connected clients that are in no room."""
    return [await connect(door, port) for _ in range(number)]


names = count(1)


class Load:
    """Starts jobs from each client, the next one when the last one is answered."""

    def __init__(self, clients: list[Wire]) -> None:
        self._clients = clients

    async def run(self, more: Callable[[int], bool]) -> int:
        """Go on while `more` of the number of jobs asked for so far; how many were started."""
        self._more, self._asked, self._answered = more, 0, 0
        self._done = asyncio.get_running_loop().create_future()
        for client in self._clients:
            client.on_message = self._answer_to(client)
            self._ask(client)
        await self._done
        return self._answered

    def _ask(self, client: Wire) -> None:
        if not self._more(self._asked):
            if self._answered == self._asked and not self._done.done():
                self._done.set_result(None)
            return
        self._asked += 1
        number = next(names)
        fields = {"connid": f"job-{number:07}", "time": 86_400, "note": f"shard {number:07}"}
        client.transport.write(client.command(fields))

    def _answer_to(self, client: Wire) -> Callable[[bytes], None]:
        def answered(payload: bytes) -> None:
            if b'"ok":true' not in payload:
                raise RuntimeError(f"a job was not started: {payload!r}")
            self._answered += 1
            self._ask(client)

        return answered
