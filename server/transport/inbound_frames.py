"""The frames of WebSocket clients: those that end no message, so that aiohttp's parser says nothing
of them, and those that it takes though they may not be."""

import struct

LARGE_FRAGMENT = 1024
"""Bytes from which on a fragment is not counted: what it costs is to read what it brings."""
SHORT = [0] * 128 + [6 + size for size in range(126)] + [0, 0]
"""By the second byte of a frame: how many it has in all, where it is masked and that byte tells."""
NOT_SENT = frozenset((1004, 1005, 1006, 1015))
"""Close codes that no frame may have: RFC 6455, section 7.4.1."""
MOST_CODE = 4999
"""The last of those that applications may use: RFC 6455, section 7.4.2."""
PROTOCOL_ERROR = 1002


class BadFrame(Exception):
    """A frame that may not be; what was read before `at` belongs to the frames before it."""

    def __init__(self, at: int) -> None:
        super().__init__("a frame that is not masked, or whose length has more bytes than it needs")
        self.at = at


class Frames:
    """Where the frames of one client begin, read by read."""

    __slots__ = ("head", "left")

    def __init__(self) -> None:
        self.head = b""
        """The beginning of a head of which the rest has not come."""
        self.left = 0
        """Bytes that are missing of the last frame."""

    def count(self, data: bytes) -> int:
        """How many frames begin in what was read that end no message, but for large ones.

        Raises `BadFrame` for one that is not masked, or whose length is not in its shortest form:
        RFC 6455, sections 5.1 and 5.2. After that nothing more may be counted.
        """
        known = len(self.head)
        if known:
            data, self.head = self.head + data, b""
        end, start, number = len(data), self.left, 0
        last = end - 1
        while start < last:
            short = SHORT[data[start + 1]]
            if short and data[start] > 0x7F:  # A whole message of up to 125 bytes: nearly all are.
                start += short
                continue
            size = self._long(data, start, known) if not short else short - 6
            if size < 0:
                break
            number += data[start] < 0x80 and size < LARGE_FRAGMENT
            start += short or size + (8 if data[start + 1] == 0xFE else 14)
        if start >= end:
            self.left = start - end
        else:
            self.left, self.head = 0, data[start:]
        return number

    def _long(self, data: bytes, start: int, known: int) -> int:
        """The length of a frame that has more than 125 bytes; -1 where it has not come whole."""
        second = data[start + 1]
        head = 4 if second == 0xFE else 10
        if second < 0x80:
            raise BadFrame(max(0, start - known))
        if start + head > len(data):
            return -1
        size = int.from_bytes(data[start + 2 : start + head], "big")
        if size < (126 if head == 4 else 2**16):
            raise BadFrame(max(0, start - known))
        return size


def answer_to_close(code: int) -> bytes:
    """The payload of the close frame that answers one with a `code`; 0 where it had none."""
    if code in NOT_SENT or code > MOST_CODE:
        code = PROTOCOL_ERROR
    return struct.pack("!H", code) if code else b""
