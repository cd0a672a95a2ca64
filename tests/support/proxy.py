"""A network between a server and Redis that can be cut, and lose what comes back."""

import asyncio
from contextlib import suppress
from types import TracebackType


class Proxy:
    """Passes connections on to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.refuses = False
        self.loses_replies = False

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def cut(self) -> None:
        """Cut all connections, and refuse new ones."""
        self.refuses = True
        self.drop()

    def mend(self) -> None:
        """Let all through again."""
        self.refuses = self.loses_replies = False
        self._open.set()

    def hold(self) -> None:
        """Let nothing through in either direction, as a network does that loses its packets."""
        self._open.clear()

    def drop(self) -> None:
        """Cut all connections that there are."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._open.set()
        self.drop()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        there = self._pass_on(reader, far_writer, False)
        back = self._pass_on(far_reader, writer, True)
        with suppress(OSError):
            await asyncio.gather(there, back)
        self._writers -= {writer, far_writer}

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool
    ) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                if not (back and self.loses_replies):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.transport.abort()
