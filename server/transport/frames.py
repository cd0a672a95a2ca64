"""WebSocket frames as a server sends them, encoded once for any number of clients."""

import struct
from collections.abc import Callable

from aiohttp import WSMsgType
from engineio.packet import MESSAGE, Packet

TEXT = WSMsgType.TEXT
"""By a name of its own, as each look at a member of an enum costs as much as a call."""

Buffer = bytes | memoryview
SendBytes = Callable[[Buffer], int]
"""Sends as much as can be sent at once; tells how many bytes that is, or raises `OSError`."""

pack_medium = struct.Struct("!BBH").pack
pack_long = struct.Struct("!BBQ").pack


def frame(payload: bytes, kind: int = TEXT) -> bytes:
    """A whole, unmasked WebSocket frame, as a server sends it: RFC 6455, section 5.2."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | kind, size)) + payload
    if size < 2**16:
        return pack_medium(0x80 | kind, 126, size) + payload
    return frame_head(size, kind) + payload


def frame_head(size: int, kind: int = TEXT, *, last: bool = True) -> bytes:
    """What comes before so many bytes of payload; `last` where no more of the message follows."""
    first = kind | 0x80 if last else kind
    if size < 126:
        return bytes((first, size))
    if size < 2**16:
        return pack_medium(first, 126, size)
    return pack_long(first, 127, size)


PONG_PROBE_FRAME = frame(b"3probe")


class Prepared:
    """A message encoded once for any number of clients, of WebSockets and of long polling."""

    __slots__ = ("_packet", "_text", "frame")

    def __init__(self, text: bytes) -> None:
        """`text` is a packet of Socket.IO."""
        self.frame = frame(b"4" + text)
        self._text = text
        self._packet: Packet | None = None

    @property
    def packet(self) -> Packet:
        """The message for python-engineio."""
        if self._packet is None:
            self._packet = Packet(MESSAGE, self._text.decode())
        return self._packet
