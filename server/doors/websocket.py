"""Plain JSON WebSockets: a client of `/ws`, and what an address says in place of a message."""

import asyncio
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiohttp import WSCloseCode, WSMsgType

from server.budget import LITTLE, Budget
from server.contract.messages import Frame
from server.core.pipeline import Pipeline
from server.core.subscribers import Client
from server.transport.plain_socket import PlainSocket

INTEGER = re.compile(r"(-?\d{1,18})(\.0{1,18})?", re.ASCII)


class PlainClient(Client):
    """A plain WebSocket that hears events."""

    def __init__(
        self, socket: PlainSocket, name: str, close_timeout: float, budget: Budget
    ) -> None:
        """`close_timeout` is how many seconds it has to take a last message."""
        super().__init__(name)
        self._socket = socket
        self._close_timeout = close_timeout
        self._budget = budget
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._size = 0
        self._cutting: asyncio.Task[bool] | None = None

    def send(self, frame: Frame) -> None:
        self.post(frame.plain())

    def post(self, text: bytes) -> None:
        """Queue one message."""
        self._size += len(text)
        if self._size > LITTLE:
            self._budget.grew(len(text))
        self._queue.put_nowait(text)

    def backlog(self) -> int:
        return self._size

    def drop(self) -> None:
        self.gone = True  # Nothing that it has sent is waited for any more.
        if self._cutting is None:
            self._cutting = asyncio.ensure_future(self.close(WSCloseCode.TRY_AGAIN_LATER))

    async def close(self, code: int) -> bool:
        """Close the connection, whatever is still unsent."""
        return await self._socket.close(code=code, drain=False)

    async def end(self, why: Frame, code: int = WSCloseCode.POLICY_VIOLATION) -> None:
        """Say why, and close the connection."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._close_timeout):
                await self._socket.send_frame(why.plain(), WSMsgType.TEXT)
        await self.close(code)

    async def answer_close(self, pipeline: Pipeline) -> None:
        """Close the connection as the client does, after the answers to what it had sent."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._close_timeout):
                await pipeline.when_answered()
                await self._queue.join()
                await self._socket.answer_close()

    def answer(self, answers: list[tuple[Any, bytes]]) -> None:
        """Answer commands, each of which was sent with its id."""
        for id, answer in answers:
            self.post(with_id(answer, id))

    def hold(self, on: bool) -> None:
        """Nothing to do: the next message is read when there is room for it."""

    async def write(self) -> None:
        """Write what is queued, until cancelled or the connection is lost."""
        try:
            while True:
                text = await self._queue.get()
                await self._socket.send_frame(text, WSMsgType.TEXT)
                self._size -= len(text)
                self._queue.task_done()
        finally:
            self.gone = True


def positions(query: Mapping[str, str]) -> dict[str, Any]:
    """The `rooms` and `since` of a plain WebSocket's address."""
    found: dict[str, Any] = {}
    if "rooms" in query:
        found["rooms"] = query["rooms"]
    if query.get("since"):
        items = [item.partition(":") for item in query["since"].split(",")]
        found["since"] = {room: position(text) for room, _, text in items}
    return found


def position(text: str) -> Any:
    """`EPOCH:SEQ` as the protocol has it; what is not of that form is left for the check."""
    if ":" not in text:
        return text
    epoch, _, seq = text.rpartition(":")
    return {"epoch": epoch, "seq": number(seq)}


def number(text: str) -> int | str:
    """The whole number that a text is, else the text, for the check to refuse."""
    found = INTEGER.fullmatch(text)
    return int(found[1]) if found else text


def with_id(answer: bytes, id: Any) -> bytes:
    """An answer that carries the `id` of its command, where it had a usable one."""
    if not isinstance(id, str | int | float) or (isinstance(id, float) and not math.isfinite(id)):
        return answer
    return b'%b,"id":%b}' % (answer[:-1], json.dumps(id).encode())
