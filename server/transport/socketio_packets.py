"""Packets of Socket.IO, as python-socketio reads them here: none is malformed.

What cannot be decoded is an event too, and is answered; no attachment is ever waited for.
"""

from collections.abc import Callable
from typing import Any

from socketio.packet import ACK, BINARY_ACK, BINARY_EVENT, EVENT, Packet

from server.contract.messages import encode

Decode = Callable[[str], Any]


class Undecodable:
    """Stands for the data of an event that could not be decoded; `error` is why."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Wire:
    """The JSON of the wire, with the interface of the module `json`, as python-socketio wants."""

    def __init__(self, decode: Decode) -> None:
        """`decode` turns text into a value, or raises."""
        self._decode = decode

    def dumps(self, value: Any, **_: Any) -> str:
        """Encode structs and plain values."""
        return encode(value).decode()

    def loads(self, text: str) -> Any:
        """Decode a packet's data; `Undecodable` where that cannot be done."""
        try:
            return self._decode(text)
        except Exception as error:
            return Undecodable(error)


def packet_class(wire: Wire) -> type[Packet]:
    """A packet that encodes and decodes with `wire`, and whose event is never malformed."""

    class WirePacket(Packet):
        json = wire
        data: Any
        packet_type: int

        def decode(self, encoded_packet: str) -> int:
            attachments: int = super().decode(encoded_packet)
            if self.packet_type == BINARY_EVENT:
                # No field is binary, so its attachments are not waited for: the check refuses the
                # field. Waiting, a client could announce ten digits of them and send for ever.
                self.packet_type, attachments = EVENT, 0
                try:
                    self.data = _binary_as_bytes(self.data)
                except RecursionError as error:
                    self.data = Undecodable(error)
            elif self.packet_type == BINARY_ACK:
                self.packet_type, attachments = ACK, 0
            if self.packet_type == EVENT:
                if isinstance(self.data, Undecodable):
                    self.data = ["", self.data]
                elif not (isinstance(self.data, list) and self.data and _is_name(self.data[0])):
                    wanted = ValueError("an event must be an array that begins with its name")
                    self.data = ["", Undecodable(wanted)]
            return attachments

    return WirePacket


def _binary_as_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_binary_as_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("_placeholder"):
        return b""
    return {key: _binary_as_bytes(item) for key, item in value.items()}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""
