"""Commands and their answers, and events, over one WebSocket; and over one after the other."""

import asyncio
import contextlib
import itertools
import json
import random
from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from hourglass.aio import timeout
from hourglass.errors import Away, Refused
from hourglass.settings import Json, Result, Settings, clock, to_json
from hourglass.websocket import ANSWER_WITHIN, WebSocket

BACKOFF = 0.5, 15.0
"""The least and the most seconds between two attempts to connect, each randomly shortened."""


OnEvent = Callable[[str, Json], None]


class Line:
    """Commands and their answers, and events, over one connection."""

    def __init__(self, socket: WebSocket, on_event: OnEvent) -> None:
        self._socket = socket
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._answers: dict[int, Future[Json]] = {}
        self._lost: Away | BrokenPipeError | None = None
        self.reading = asyncio.create_task(self._read())
        """Ends when the connection is lost, and never raises."""

    async def call(self, command: str, **fields: Any) -> Json:
        """Give a command; its answer. Raises `Refused`, and `Away` when it is not known whether the
        command was carried out."""
        self.check()
        id = next(self._ids)
        answer: Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[id] = answer
        told = {name: value for name, value in fields.items() if value is not None}
        message = to_json({"route": command, "id": id, **told})
        try:
            async with timeout(ANSWER_WITHIN):
                await self._socket.send(message)
                found = await answer
        except TimeoutError:
            raise Away(f"the server does not answer {command}") from None
        finally:
            del self._answers[id]
            answer.cancel()
        if not found.get("ok"):
            raise Refused(found)
        return found

    async def until(self, event: asyncio.Event) -> None:
        """Wait until an event is set. Raises what `check` does."""
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({self.reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not event.is_set():
            self.check()

    def check(self) -> None:
        """Raises `Away` when the connection is lost, and what kept an event from being printed."""
        if self._lost is not None:
            raise self._lost

    async def _read(self) -> None:
        try:
            while True:
                self._take(json.loads(await self._socket.receive()))
        except (Away, BrokenPipeError) as lost:  # The latter when nobody reads what we print.
            self._lost = lost
        except Exception as error:
            self._lost = Away(f"what the server says is not understood: {error!r}")
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._lost)

    def _take(self, message: Json) -> None:
        answer = self._answers.get(message.get("id", 0))
        if "event" in message:
            self._on_event(message["event"], message)
        elif answer is not None and not answer.done():
            del message["id"]
            answer.set_result(message)


@contextlib.asynccontextmanager
async def connected(
    settings: Settings,
    on_event: OnEvent = lambda name, event: None,
) -> AsyncIterator[Line]:
    """A line to the server, in no room yet. Raises `Away` and `Refused`."""
    if settings.problem is not None:
        raise Away(settings.problem)
    query = {"name": settings.by, "via": "cli", "rooms": ""}
    url = settings.url
    url = url._replace(path=url.path.rstrip("/") + "/ws", query=urlencode(query, errors="replace"))
    headers = {"User-Agent": "hourglass"}
    if token := settings.read_token():
        headers["Authorization"] = f"Bearer {token}"
    socket = await WebSocket.connect(url, headers)
    line = Line(socket, on_event)
    try:
        yield line
    finally:
        line.reading.cancel()
        await socket.close()


class Backoff:
    """How long to wait before connecting again: ever longer, until a line was up for long enough.

    One that the server only takes to say no must not make us come back at once, again and again.
    """

    def __init__(self, lease: float | None = None) -> None:
        """A server that comes back begins a `lease` anew, in seconds: we try twice within it."""
        least, most = BACKOFF
        self._most = most if lease is None else max(least, min(most, lease / 2))
        self._attempt = 0
        self._up_since: float | None = None

    def up(self) -> None:
        """There is a line, from now until the next `seconds`."""
        self._up_since = clock()

    def seconds(self) -> float:
        """The next wait; random, so that a crowd does not come at once."""
        least, most = BACKOFF
        if self._up_since is not None and clock() - self._up_since > most:
            self._attempt = 0
        self._up_since = None
        wait = random.uniform(0.3, 1) * min(self._most, least * 2.0**self._attempt)
        self._attempt = min(self._attempt + 1, 10)
        return wait


async def over_lines(
    connect: Callable[[], contextlib.AbstractAsyncContextManager[Line]],
    use: Callable[[Line], Awaitable[Result]],
    tell: Callable[[str], None],
) -> Result:
    """What `use` returns, over as many lines as it takes; `tell` hears why one was lost.

    Raises `Refused` when it is of no use to try again.
    """
    backoff = Backoff()
    while True:
        try:
            async with connect() as line:
                backoff.up()
                return await use(line)
        except Away as away:
            tell(str(away))
        except Refused as refused:
            if not refused.passing:
                raise
            tell(str(refused))
        await asyncio.sleep(backoff.seconds())
