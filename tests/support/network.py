"""A network between two ends, which a test can cut, hold and mend."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[int]:
    """Have `answer` serve each connection to a port, and leave none open; the port."""
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        left = [task for task in tasks if task is not None and not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class Proxy:
    """Passes TCP connections on to a server of this machine, from a port of its own."""

    def __init__(
        self, url: str, *, mute_at: bytes | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """From `mute_at` in what the server says on, its replies are lost, until mended.

        With `tls` clients have to speak TLS, which ends here.
        """
        self._to = urlsplit(url)
        self._mute_at = mute_at
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self.refused = 0
        """Connections."""
        self.loses_replies = False
        self.muted = asyncio.Event()

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self._tls else self._to.scheme
        return self._to._replace(scheme=scheme, netloc=f"127.0.0.1:{port}").geturl()

    def cut(self) -> None:
        """Cut all connections, and refuse new ones."""
        self._refuses = True
        self.drop()

    def drop(self) -> None:
        """Cut all connections that there are."""
        for connection in self._connections:
            connection.cancel()

    def hold(self) -> None:
        """Let nothing through in either direction, as a network does that loses its packets."""
        self._flows.clear()

    def mend(self) -> None:
        """Let all through again."""
        self._refuses = self.loses_replies = False
        self._mute_at = None
        self._flows.set()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        ends = [writer]
        try:
            if self._refuses:
                self.refused += 1
            else:
                replies, to = await asyncio.open_connection("127.0.0.1", self._to.port)
                ends.append(to)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass_on(reader, to))
                    group.create_task(self._pass_on(replies, writer, back=True))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            self._connections.discard(task)
            for end in ends:
                end.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool = False
    ) -> None:
        while data := await reader.read(65_536):
            await self._flows.wait()
            if back and self._mute_at is not None and self._mute_at in data:
                self.loses_replies = True
                self.muted.set()
            if not (back and self.loses_replies):
                writer.write(data)
                await writer.drain()
        writer.close()  # Which ends the other direction as well.
