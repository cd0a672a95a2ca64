"""Long polling: the polls and the POSTs of all sessions that have no WebSocket."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import parse_qs
from weakref import WeakSet

from aiohttp import StreamReader, web
from engineio.async_socket import AsyncSocket
from engineio.exceptions import ContentTooLongError, EngineIOError, UnknownPacketError
from engineio.packet import CLOSE, MESSAGE, PONG, Packet

from server.transport.byte_queue import MOST_POLLED
from server.transport.heartbeat import Heartbeat
from server.transport.packets import SharedPacket, TextPacket
from server.transport.shared_response import SEPARATOR, SharedResponse

MOST_PACKETS = 20_000
"""Packets that one POST may have; to take them apart keeps all others waiting."""

MOST_POSTS = 16
"""POSTs of a session that may be under way: clients wait for the answer to one before the next."""

POSTED = 2
"""How often a POST is in memory while it is taken, about: as a text, and as the packets in it."""

TURN = 16
"""Packets of a POST that are taken before it is the turn of others."""


def decode_payload(text: str) -> Iterator[Packet]:
    """The packets of a POST, one by one: they may be many. Raises `ValueError` where there are too
    many, or one is none, and `UnknownPacketError` for one that no client of long polling sends.
    """
    if text.startswith("d="):  # A form, for JSONP.
        text = parse_qs(text).get("d", [""])[0]
    parts = text.split(SEPARATOR, MOST_PACKETS) if text else []
    if len(parts) > MOST_PACKETS:
        raise ValueError("too many packets")
    for part in parts:
        packet = TextPacket(encoded_packet=part)
        if packet.packet_type not in (CLOSE, PONG, MESSAGE):
            raise UnknownPacketError
        yield packet


class Posts(asyncio.Lock):
    """The POSTs of a session. Held while one is read and taken: the next is only read after it."""

    def __init__(self) -> None:
        super().__init__()
        self._requests: list[web.Request] = []
        self.since = 0.0
        """The time since when some are under way."""

    @contextmanager
    def under_way(self, request: web.Request) -> Iterator[None]:
        """Count a POST. Raises `TooManyPosts` where too many are under way."""
        if len(self._requests) >= MOST_POSTS:
            raise TooManyPosts
        if not self._requests:
            self.since = asyncio.get_running_loop().time()
        self._requests.append(request)
        try:
            yield
        finally:
            self._requests.remove(request)

    @property
    def size(self) -> int:
        """Bytes of those whose connections are gone, and count for them no more."""
        lost = (request.content for request in self._requests if request.transport is None)
        return POSTED * sum(content.total_bytes for content in lost)


class TooManyPosts(EngineIOError):
    """Clients send one POST after the other."""


def posts_of(socket: AsyncSocket) -> Posts:
    """The POSTs of a session."""
    posts: Posts | None = getattr(socket, "posts", None)
    if posts is None:
        posts = socket.posts = Posts()
    return posts


class Host(Protocol):
    """What long polling needs of the driver that it belongs to."""

    eio: Any
    """The server of python-engineio."""
    heartbeat: Heartbeat

    async def pace(self, socket: AsyncSocket, number: int = 1) -> None:
        """Count what a client sends that is no command, and wait until it should be read again."""

    async def end(self, socket: AsyncSocket, reason: str) -> None:
        """End a session in the way after which the clients of all languages come back."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in a task that is kept until it is done."""
        raise NotImplementedError


class Polling:
    """Answers polls and POSTs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._eio = host.eio
        # What python-engineio does by itself.
        self._handle_request = self._eio.handle_request
        self._ok = self._eio._ok
        # The polls that are under way, by the protocol of their connection.
        self._polls: dict[Any, AsyncSocket] = {}
        # The HTTP servers whose lost connections are told.
        self._watched: WeakSet[Any] = WeakSet()

    async def poll(self, request: web.Request, socket: AsyncSocket) -> web.StreamResponse:
        """Have python-engineio answer a poll.

        A session ends with a poll that is broken off, or overlaps another: what the one would have
        been answered is lost, and the packets of two would be in no order.
        """
        queue, protocol = socket.queue, request.protocol
        if queue.polled:
            await socket.close(wait=False, reason=self._eio.reason.TRANSPORT_ERROR)
            return self.answer(request, "Another poll of the session is under way.", 400)
        self._watch(protocol)
        queue.polled, queue.room = True, MOST_POLLED
        self._polls[protocol] = socket
        try:
            response: web.StreamResponse = await self._handle_request(request)
            if isinstance(response, SharedResponse):
                queue.response = response
                await response.prepare(request)
                await response.write_eof()
                return response
        finally:
            queue.polled, queue.response = False, None
            self._polls.pop(protocol, None)
        assert isinstance(response, web.Response)
        if socket.closed and not response.body:
            return self._ended(request)
        return response

    def answer_poll(self, packets: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As python-engineio answers, but for what is held once for many: that is not copied."""
        shares = any(isinstance(packet, SharedPacket) for packet in packets or ())
        if not shares or kwargs.get("jsonp_index") is not None:
            return self._ok(packets, *args, **kwargs)
        answer = self._ok([], *args, **kwargs)
        return answer | {"response": packets}

    def last_poll(self, request: web.Request, socket: AsyncSocket) -> web.StreamResponse:
        """Answer a poll of a session that has ended with what still waited."""
        self._eio.sockets.pop(socket.sid, None)
        packets = []
        while not socket.queue.empty():
            packets.append(socket.queue.get_nowait())
        packets = [packet for packet in packets if packet]
        if not packets:
            return self._ended(request)
        answer = self.answer_poll(packets)
        return make_response(answer["status"], answer["headers"], answer["response"], {})

    def _ended(self, request: web.Request) -> web.Response:
        """An error, after which the clients of all languages open a new session."""
        return self.answer(request, "The session has ended.", 400)

    def _watch(self, protocol: Any) -> None:
        """Hear of it when a connection of this HTTP server is lost: its handlers are not told."""
        http = protocol._manager
        if http is None or http in self._watched:
            return
        self._watched.add(http)
        lost = http.connection_lost

        def connection_lost(handler: Any, error: BaseException | None = None) -> None:
            lost(handler, error)
            socket = self._polls.pop(handler, None)
            if socket is not None and not socket.upgrading and not socket.upgraded:
                self._host.spawn(self._host.end(socket, self._eio.reason.TRANSPORT_CLOSE))

        http.connection_lost = connection_lost

    async def post(self, request: web.Request) -> web.Response:
        """Take what a client of long polling posts.

        Not python-engineio: it takes as much of a body as has come so far for the whole, and what a
        client does wrong for errors of the server.
        """
        socket = self._eio.sockets.get(request.query.get("sid"))
        if socket is None or socket.closed or socket.upgraded or not socket.connected:
            return self.answer(request, "There is no such session.", 400)
        posts = posts_of(socket)
        try:
            with posts.under_way(request):
                async with posts:
                    await self._take_post(socket, await self._read(request.content))
        except (EngineIOError, ValueError):
            await self._host.end(socket, self._eio.reason.TRANSPORT_ERROR)
            return self.answer(request, "This is no payload of Engine.IO.", 400)
        return self.answer(request, "ok")

    async def _take_post(self, socket: AsyncSocket, text: str) -> None:
        for number, packet in enumerate(decode_payload(text), 1):
            if number % TURN == 0:
                await asyncio.sleep(0)
            if socket.closed:
                break
            if packet.packet_type != PONG:
                await socket.receive(packet)
            elif not self._host.heartbeat.answered(socket):
                await self._host.pace(socket)

    async def _read(self, content: StreamReader) -> str:
        """The text of a body. Raises `EngineIOError` and `ValueError` for what is none."""
        data = bytearray()
        while chunk := await content.readany():
            data += chunk
            if len(data) > self._eio.max_http_buffer_size:
                raise ContentTooLongError
        return data.decode()

    def answer(self, request: web.Request, text: str, status: int = 200) -> web.Response:
        """A response of the driver's own, for whatever page has asked."""
        ours = self._eio.cors_allowed_origins == []
        environ = {} if ours else self._eio._async["translate_request"](request)
        return web.Response(status=status, text=text, headers=self._eio._cors_headers(environ))


def make_response(
    status: str, headers: list[tuple[str, str]], payload: Any, environ: dict[str, Any]
) -> web.StreamResponse:
    """What python-engineio answers, as a response of aiohttp's; packets are not copied."""
    if isinstance(payload, list):
        return SharedResponse(payload, headers)
    return web.Response(body=payload, status=int(status.split()[0]), headers=headers)
