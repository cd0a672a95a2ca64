"""Packets of Engine.IO: as clients send them, and as what is sent to many is held once."""

from typing import Any

from engineio.packet import MESSAGE, Packet

from server.budget import Shared


class Undecoded:
    """Decodes nothing, in the place of the module `json`."""

    @staticmethod
    def loads(text: str) -> Any:
        """Raises the `ValueError` after which python-engineio takes a text as it is."""
        raise ValueError


class TextPacket(Packet):
    """A packet of a client. Packets of Socket.IO are texts, whatever they look like."""

    json = Undecoded


class SharedPacket(Packet):
    """A message to one client of which the middle is held once for many."""

    def __init__(self, head: bytes, body: Shared, tail: bytes) -> None:
        """The parts of a packet of Socket.IO."""
        super().__init__(MESSAGE)
        self.head = b"4" + head
        self.body = body
        self.tail = tail

    def __len__(self) -> int:
        return len(self.head) + len(self.body) + len(self.tail)

    def encode(self, b64: bool = False) -> str:
        """The same as a text, for python-engineio."""
        return b"".join((self.head, self.body.data, self.tail)).decode()


def packet_size(packet: Any) -> int:
    """The bytes that a packet takes, at most."""
    if isinstance(packet, SharedPacket):
        return len(packet)
    data = getattr(packet, "data", None)
    if isinstance(data, str) and not data.isascii():
        return 4 * len(data)
    return len(data) if isinstance(data, str | bytes) else 16
