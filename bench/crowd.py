"""Many dashboards in one thread, which read for next to nothing: raw sockets and frame headers.

They offer compression and send headers as browsers do. What they are sent is counted, frame by
frame; one dashboard in a crowd also reads its messages, inflating them where it must, and so proves
the count. The thread never sleeps, so that no server pays for waking it up; `idle` is how long it
found nothing to read.
"""

import select
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator

from bench.doors import Door

TEXT, PING, PONG = 1, 9, 10
COMPRESSED = 0x40
SMALL = 16
"""A frame with less in it is a ping or its like, and no event."""
PATIENCE = 20.0
HEADERS = """GET {path} HTTP/1.1\r
Host: 127.0.0.1:{port}\r
Connection: Upgrade\r
Pragma: no-cache\r
Cache-Control: no-cache\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0\
 Safari/537.36\r
Upgrade: websocket\r
Origin: http://127.0.0.1:{port}\r
Sec-WebSocket-Version: 13\r
Accept-Encoding: gzip, deflate, br, zstd\r
Accept-Language: en-GB,en-US;q=0.9,en;q=0.8\r
Cookie: session=4f1b0c9d2e7a48d6a3f5c8b17e90d264\r
Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r
\r
"""


class Client:
    """One WebSocket."""

    __slots__ = ("_inflate", "messages", "received", "recv_into", "rest", "seen", "socket")

    def __init__(self, port: int, reads: bool) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Reset when closed: no port is left waiting.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.recv_into = self.socket.recv_into
        self.rest = b""
        """The beginning of a frame whose end has not come yet."""
        self.seen = 0
        """Events that have come since the last mark."""
        self.received = 0
        """Data frames in all."""
        self.messages: list[bytes] | None = [] if reads else None
        """What has come, of a client that reads it."""
        self._inflate = zlib.decompressobj(-15)

    def open(self, door: Door, port: int, watches: bool) -> None:
        """Shake hands, and wait for all that a server says then."""
        if door.path is None:
            return
        path = door.path if watches else door.path_aside
        self.socket.sendall(HEADERS.format(path=path, port=port).encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, data = data.partition(b"\r\n\r\n")
        if b" 101 " not in head[:20]:
            raise ConnectionError(f"no WebSocket: {head!r}")
        if hello := door.hello(watches):
            self.socket.sendall(frame(hello))
        self.take(data)
        while self.received < door.greetings(watches):
            self.take(self._receive())

    def take(self, data: bytes) -> int:
        """Take what has come: read it, answer pings; how many events it has."""
        data = self.rest + data
        events = at = 0
        for head, start, end in frames(data):
            payload, at = data[start:end], end
            if head & 15 == PING:
                self.socket.sendall(frame(payload, PONG))
                continue
            self.received += 1
            events += end - start >= SMALL
            if self.messages is not None:
                self.messages.append(self._text(payload) if head & COMPRESSED else payload)
            if end - start < SMALL and self.received > 2:
                self.socket.sendall(frame(b"3"))
        self.rest = data[at:]
        return events

    def _text(self, payload: bytes) -> bytes:
        return self._inflate.decompress(payload + b"\x00\x00\xff\xff")

    def _receive(self) -> bytes:
        data = self.socket.recv(2**16)
        if not data:
            raise ConnectionError("the server has closed a connection of the benchmark")
        return data


class Crowd:
    """One client that gives commands, and any number of dashboards."""

    def __init__(self, door: Door, port: int, dashboards: int) -> None:
        self.idle = 0.0
        self.answered = 0
        self.frame_size = 0
        """Bytes of the frame of the last event that was read."""
        self.everywhere: list[float] = []
        """When each event since the last mark had reached every dashboard."""
        self._door = door
        self._port = port
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._buffer = bytearray(2**18)
        self._reached: list[int] = []
        self._idle_since: float | None = None
        self._giver = self._connect(watches=False, reads=True)
        self._reader: Client | None = None
        self.size = 0
        self.join(dashboards)

    def join(self, dashboards: int) -> None:
        """Let more dashboards connect, one after the other."""
        for _ in range(dashboards):
            client = self._connect(watches=True, reads=self._reader is None)
            if self._reader is None:
                self._reader = client
        self.size += dashboards

    def close(self) -> None:
        for client in self._clients.values():
            client.socket.close()
        self._epoll.close()

    def send(self, commands: bytes) -> None:
        """Give commands: whole frames."""
        self._giver.socket.setblocking(True)
        self._giver.socket.sendall(commands)
        self._giver.socket.setblocking(False)

    def mark(self) -> None:
        """Begin to count, when nothing is under way."""
        for client in self._clients.values():
            client.seen = 0
        self._reached.clear()
        self.everywhere.clear()
        self._forget()

    def prove(self) -> None:
        """Compare what was counted since the mark with what one dashboard has read."""
        if self._reader is None or self._door.path is None:
            return
        messages = self._reader.messages or []
        names = Counter(map(self._door.event, messages))
        del names[b""]
        if names.total() != len(self.everywhere):
            raise RuntimeError(f"counted {len(self.everywhere)} events, and {names} were read")
        if messages:
            self.frame_size = len(messages[-1]) + 4
        self._forget()

    def settle(self, seconds: float) -> None:
        """Read until nothing has come for some time."""
        quiet = time.perf_counter()
        while time.perf_counter() - quiet < seconds:
            if self.read():
                quiet = time.perf_counter()

    def until(self, events: int) -> None:
        """Read until so many events since the mark are everywhere."""
        end = time.perf_counter() + PATIENCE
        while len(self.everywhere) < events:
            if not self.read() and time.perf_counter() > end:
                raise TimeoutError(f"{len(self.everywhere)} of {events} events have come")

    def read(self) -> bool:
        """Read what is there; false when it is nothing."""
        ready = self._epoll.poll(0)
        if not ready:
            if self._idle_since is None:
                self._idle_since = time.perf_counter()
            return False
        if self._idle_since is not None:
            self.idle += time.perf_counter() - self._idle_since
            self._idle_since = None
        for descriptor, _ in ready:
            self._read_from(self._clients[descriptor])
        return True

    def _read_from(self, client: Client) -> None:
        data = self._buffer
        size = client.recv_into(data)
        if not size:
            raise ConnectionError("the server has closed a connection of the benchmark")
        if client.messages is not None or client.rest:
            events = client.take(bytes(data[:size]))
            if client is self._giver:
                self._answers()
                return
        else:
            events = at = 0
            # As `frames` does it, in half of the time.
            while at + 4 <= size:
                length = data[at + 1]
                end = at + 2 + length
                if length == 126:
                    end = at + 4 + (data[at + 2] << 8 | data[at + 3])
                if length < SMALL or length == 127 or end > size:
                    break
                at = end
                events += 1
            if at < size:
                events += client.take(bytes(data[at:size]))
        self._count(client, events)

    def _count(self, client: Client, events: int) -> None:
        reached = self._reached
        for number in range(client.seen, client.seen + events):
            if number == len(reached):
                reached.append(0)
            reached[number] += 1
            if reached[number] == self.size:
                self.everywhere.append(time.perf_counter())
        client.seen += events

    def _answers(self) -> None:
        """Count the answers to commands."""
        messages = self._giver.messages or []
        for message in messages:
            if self._door.is_answer(message):
                if b'"ok":true' not in message and b'"ok": true' not in message:
                    raise RuntimeError(f"a command was refused: {message!r}")
                self.answered += 1
        messages.clear()

    def _forget(self) -> None:
        if self._reader is not None and self._reader.messages:
            self._reader.messages.clear()

    def _connect(self, *, watches: bool, reads: bool) -> Client:
        client = Client(self._port, reads)
        client.open(self._door, self._port, watches)
        client.socket.setblocking(False)
        self._epoll.register(client.socket, select.EPOLLIN)
        self._clients[client.socket.fileno()] = client
        return client


def frames(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The first byte of each whole frame, and where its payload begins and ends."""
    at = 0
    while at + 2 <= len(data):
        size, start = data[at + 1], at + 2
        if size >= 126:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[at + 2 : start], "big")
        if start + size > len(data):
            return
        yield data[at], start, start + size
        at = start + size


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A client's frame; with a mask of zeros the payload stays as it is."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + payload
