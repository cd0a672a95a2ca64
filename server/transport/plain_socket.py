"""A WebSocket at `/ws`, as aiohttp serves it, with what our clients are promised."""

import asyncio
from contextlib import suppress
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.http import WebSocketError, WebSocketWriter

from server.access.rate_limits import control_bucket
from server.budget import Shared
from server.transport.flusher import READ_AT_ONCE
from server.transport.frames import frame_head
from server.transport.inbound_frames import BadFrame, Frames, answer_to_close
from server.transport.shared_response import PORTION


class PlainSocket(web.WebSocketResponse):
    """A WebSocket that stays with aiohttp, and is read as those of the driver are."""

    def __init__(self, *, max_message: int, control_rate: float, **options: Any) -> None:
        """`max_message` is in bytes, `control_rate` that of `install`; the rest is aiohttp's."""
        # Its bound is the least that is too much.
        super().__init__(max_msg_size=max_message + 1, compress=False, autoping=False, **options)
        self._frames = Frames()
        self._controls = control_bucket(control_rate)
        # What was read and is not taken yet, and whether that has to wait.
        self._late = b""
        self._waits = False
        self._going_on: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()

    def count(self, number: int = 1) -> float:
        """Count what is no command; for how many seconds nothing should be read."""
        return self._controls.count(number, asyncio.get_running_loop().time())

    async def rest(self, seconds: float) -> None:
        """Wait for so long, but not for what is gone: nobody is kept from sending more then."""
        if seconds == 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()

    async def answer_close(self) -> None:
        """Answer the client's close frame with its code, and close the connection."""
        await self.send_frame(answer_to_close(self.close_code or 0), WSMsgType.CLOSE)
        if self._http.transport is not None:
            self._http.transport.close()

    async def send_shared(self, head: bytes, body: Shared) -> None:
        """Send a text of which the end is not copied, but for little at a time.

        In fragments, so that pings, pongs and a close frame may come between them: RFC 6455,
        section 5.4. Nothing else may be sent meanwhile.
        """
        self._write_fragment(head, WSMsgType.TEXT, last=False)
        for start in range(0, len(body), PORTION):
            end = start + PORTION
            last = end >= len(body)
            self._write_fragment(body.data[start:end], WSMsgType.CONTINUATION, last=last)
            assert self._payload_writer is not None
            await self._payload_writer.drain()
            await asyncio.sleep(0)

    def _write_fragment(self, data: bytes | memoryview, kind: int, *, last: bool) -> None:
        transport = self._http.transport
        if self.closed or transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        transport.write(b"".join((frame_head(len(data), kind, last=last), data)))

    def _post_start(
        self, request: web.BaseRequest, protocol: str | None, writer: WebSocketWriter
    ) -> None:
        http = request.protocol
        early, http._message_tail = http._message_tail, b""
        super()._post_start(request, protocol, writer)
        self._http = http
        # Kept until the end of the connection, while aiohttp lets go of it before that.
        self._feed = http._payload_parser.feed_data
        self._feed_eof = http._payload_parser.feed_eof
        assert http.transport is not None
        http.transport.set_write_buffer_limits(high=PORTION)
        http._payload_parser, http._upgraded = self, True
        if early:
            self.feed_data(early)

    def feed_eof(self) -> None:
        """The connection is gone."""
        self._gone.set()
        if self._going_on is not None and not self._late:
            self._going_on.cancel()
        self._feed_eof()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take what was read, in the place of aiohttp's parser; whether that was the last."""
        if self._waits:
            self._late += data
            return False, b""
        return self._take(data)

    def _take(self, data: bytes) -> tuple[bool, bytes]:
        """Take as much as is read from a connection of the driver at once, the rest in its turn."""
        data, self._late = data[:READ_AT_ONCE], data[READ_AT_ONCE:]
        try:
            fragments = self._frames.count(data)
        except BadFrame as bad:
            self._feed(data[: bad.at])
            assert self._reader is not None
            self._reader.set_exception(WebSocketError(WSCloseCode.PROTOCOL_ERROR, str(bad)))
            return True, b""
        ended: tuple[bool, bytes] = self._feed(data)
        seconds = self.count(fragments) if fragments else 0
        if seconds or self._late:
            self._waits = True
            self._http._pause_reading_for_buffer()
            self._going_on = asyncio.get_running_loop().call_later(seconds, self._go_on)
        return ended

    def _go_on(self) -> None:
        self._waits = False
        if self._late and self._take(self._late)[0]:
            self._http.close()
        elif not self._waits:
            self._http._resume_reading_for_buffer()


def has_more(socket: web.WebSocketResponse) -> bool:
    """Whether whole messages of a WebSocket of aiohttp's wait to be taken."""
    return bool(socket._reader is not None and socket._reader._buffer)


def ignore(size: int) -> None:
    """Hear how much more is held, and do nothing about it."""
