"""How clients of the benchmark talk to each kind of server: what is said, as bytes."""

import json
from itertools import count
from typing import Any

numbers = count(1)


class Door:
    """Socket.IO."""

    path: str | None = "/socket.io/?EIO=4&transport=websocket"
    path_aside = path
    """The path of a client that only gives commands."""

    def hello(self, watches: bool) -> bytes:
        """What a client says after the handshake."""
        return b"40{}" if watches else b'40{"rooms":[]}'

    def greetings(self, watches: bool) -> int:
        """How many messages a server says then: OPEN, CONNECT and the snapshot."""
        return 3 if watches else 2

    def command(self, name: str, fields: dict[str, Any]) -> bytes:
        """A command that is to be answered."""
        return b"42%d%b" % (next(numbers), dumps([name, fields]))

    def is_answer(self, message: bytes) -> bool:
        """Whether a message answers a command."""
        return message.startswith(b"43")

    def event(self, message: bytes) -> bytes:
        """The name of the event that a message is, empty where it is none."""
        return message[4 : message.index(b'"', 4)] if message.startswith(b'42["') else b""


class Plain(Door):
    """JSON in plain WebSocket messages."""

    path = "/ws"
    path_aside = "/ws?rooms="

    def hello(self, watches: bool) -> bytes:
        return b""

    def greetings(self, watches: bool) -> int:
        return int(watches)

    def command(self, name: str, fields: dict[str, Any]) -> bytes:
        return dumps({"route": name, "id": next(numbers), **fields})

    def is_answer(self, message: bytes) -> bool:
        return message.startswith(b'{"id"')

    def event(self, message: bytes) -> bytes:
        return message[11 : message.index(b'"', 11)] if message.startswith(b'{"event"') else b""


class Bare(Door):
    """No WebSocket at all: frames come for each byte that is sent."""

    path = None

    def command(self, name: str, fields: dict[str, Any]) -> bytes:
        return b"."


def dumps(value: Any) -> bytes:
    """JSON as browsers write it."""
    return json.dumps(value, separators=(",", ":")).encode()
