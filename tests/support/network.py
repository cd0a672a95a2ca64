"""A network between a client and a server, which a test can cut and mend."""

import asyncio
import ssl
from contextlib import suppress
from urllib.parse import urlsplit


class Proxy:
    """Passes TCP connections on to a server of this machine, from a port of its own."""

    def __init__(
        self, url: str, *, mute_at: bytes | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """From `mute_at` in what the server says on, that is not passed on, until mended.

        With `tls` clients have to speak TLS, which ends here.
        """
        self._tls = tls
        self._port = urlsplit(url).port
        self._mute_at = mute_at
        self.muted = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._cut = False
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection, and let no new one through."""
        self._cut = True
        for connection in self._connections:
            connection.cancel()

    def mend(self) -> None:
        """Let connections through again."""
        self._cut = False
        self._mute_at = None

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
        back: asyncio.StreamWriter | None = None
        try:
            if not self._cut:
                answers, back = await asyncio.open_connection("127.0.0.1", self._port)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, back))
                    group.create_task(self._pass(answers, writer, self._mute_at))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            self._connections.discard(task)
            for end in filter(None, (writer, back)):
                end.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        mute_at: bytes | None = None,
    ) -> None:
        muted = False
        while data := await reader.read(65_536):
            if mute_at is not None and mute_at in data:
                muted = True
                self.muted.set()
            if not muted:
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.write_eof()
