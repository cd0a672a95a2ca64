"""Plain JSON WebSockets: a client of `/ws`, and how its URL is parsed."""

import asyncio
import json
import math
import re
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from aiohttp import WSCloseCode, WSMsgType

from server.budget import LITTLE, Budget, Shared
from server.contract.messages import Frame
from server.core.pipeline import Pipeline
from server.core.subscribers import Client
from server.transport.plain_socket import PlainSocket

INTEGER = re.compile(r"(-?\d{1,18})(\.0{1,18})?", re.ASCII)


class PlainClient(Client):
    """A plain WebSocket that receives events."""

    def __init__(
        self, socket: PlainSocket, name: str, close_timeout: float, budget: Budget
    ) -> None:
        """`close_timeout` is how many seconds the client has to read the last message."""
        super().__init__(name)
        self._socket = socket
        self._close_timeout = close_timeout
        self._budget = budget
        # Messages; the end of one may be for others as well.
        self._queue: asyncio.Queue[tuple[bytes, Shared | None]] = asyncio.Queue()
        self._size = 0
        self._shared: deque[Shared] = deque()
        # Set unless some of a message is on its way, and some is not.
        self._between = asyncio.Event()
        self._between.set()
        self._cutting: asyncio.Task[bool] | None = None

    def send(self, frame: Frame) -> None:
        self.post(frame.plain())

    def post(self, text: bytes) -> None:
        """Queue one message."""
        self._size += len(text)
        if self._size > LITTLE:
            self._budget.grew(len(text))
        self._queue.put_nowait((text, None))

    def send_shared(self, name: str, head: bytes, body: Shared) -> None:
        begun = Frame(name, head).plain()
        self._size += len(begun) + len(body)
        self._shared.append(body)
        self._queue.put_nowait((begun, body))

    def backlog(self) -> int:
        return self._size

    @property
    def own(self) -> int:
        """Bytes that are queued for this client alone."""
        return self._size - sum(map(len, self._shared))

    @property
    def shared(self) -> Collection[Shared]:
        """What is queued for others as well."""
        return self._shared

    def drop(self) -> None:
        self.gone = True  # Its commands are not waited for any more.
        if self._cutting is None:
            self._cutting = asyncio.ensure_future(self.close(WSCloseCode.TRY_AGAIN_LATER))

    async def close(self, code: int) -> bool:
        """Close the connection, dropping what is unsent."""
        return await self._socket.close(code=code, drain=False)

    async def end(self, why: Frame, code: int = WSCloseCode.POLICY_VIOLATION) -> None:
        """Send the reason, and close the connection."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._close_timeout):
                await self._between.wait()
                await self._socket.send_frame(why.plain(), WSMsgType.TEXT)
        await self.close(code)

    async def answer_close(self, pipeline: Pipeline) -> None:
        """Complete the client's close handshake, after answering the commands before it."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._close_timeout):
                await pipeline.when_answered()
                await self._queue.join()
                await self._socket.answer_close()

    def answer(self, answers: list[tuple[Any, bytes]]) -> None:
        """Answer commands, each by its id."""
        for id, answer in answers:
            self.post(with_id(answer, id))

    def hold(self, on: bool) -> None:
        """Nothing to do: the next message is read once the pipeline has room for it."""

    async def write(self) -> None:
        """Write what is queued, until cancelled or the connection is lost."""
        try:
            while True:
                text, body = await self._queue.get()
                if body is None:
                    await self._socket.send_frame(text, WSMsgType.TEXT)
                else:
                    await self._write_shared(text, body)
                self._size -= len(text)
                self._queue.task_done()
        finally:
            self.gone = True

    async def _write_shared(self, head: bytes, body: Shared) -> None:
        self._between.clear()
        await self._socket.send_shared(head, body)
        self._between.set()
        self._shared.popleft()
        self._size -= len(body)


def positions(query: Mapping[str, str]) -> dict[str, Any]:
    """The `rooms` and `since` in the query of a plain WebSocket's URL."""
    found: dict[str, Any] = {}
    if "rooms" in query:
        found["rooms"] = query["rooms"]
    if query.get("since"):
        items = [item.partition(":") for item in query["since"].split(",")]
        found["since"] = {room: position(text) for room, _, text in items}
    return found


def position(text: str) -> Any:
    """`EPOCH:SEQ` as an object; any other text is returned as it is, for validation to reject."""
    if ":" not in text:
        return text
    epoch, _, seq = text.rpartition(":")
    return {"epoch": epoch, "seq": number(seq)}


def number(text: str) -> int | str:
    """A text as a whole number; any other text is returned as it is, for validation to reject."""
    found = INTEGER.fullmatch(text)
    return int(found[1]) if found else text


def with_id(answer: bytes, id: Any) -> bytes:
    """An answer with the `id` of its command, if that is a text or a finite number."""
    if not isinstance(id, str | int | float) or (isinstance(id, float) and not math.isfinite(id)):
        return answer
    return b'%b,"id":%b}' % (answer[:-1], json.dumps(id).encode())
