"""How connections are let in."""

import asyncio
import inspect
import logging
import socket
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server.doors.downloads import downloads
from server.transport import acceptor
from server.transport.acceptor import Acceptor
from tests.conftest import Serve
from tests.support.files import no_more_files
from tests.support.servers import eventually


class Greeter(asyncio.Protocol):
    """Says hello to whoever comes, by the address that it sees."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello %b" % transport.get_extra_info("peername")[0].encode())
        transport.close()


@asynccontextmanager
async def listening(host: str = "127.0.0.1") -> AsyncIterator[Acceptor]:
    found = Acceptor(Greeter)
    await found.open(host, 0)
    try:
        yield found
    finally:
        found.close()


def test_what_the_acceptor_leans_on_is_there() -> None:
    wanted = "(self, loop, sock, protocol, waiter=None, extra=None, server=None)"
    assert str(inspect.signature(_SelectorSocketTransport.__init__)) == wanted


async def test_many_who_come_at_once_are_all_let_in() -> None:
    # No more than a system with a small backlog takes at once: who only reads would wait for ever.
    async def come(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        said = await reader.read()
        writer.close()
        return said

    async with listening() as found:
        said = await asyncio.gather(*(come(found.name[1]) for _ in range(100)))
    assert said == [b"hello 127.0.0.1"] * 100


async def test_nobody_is_let_in_any_more_once_it_is_closed() -> None:
    async with listening() as found:
        port = found.name[1]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    found.close()


async def test_who_finds_no_room_is_let_in_as_soon_as_there_is_some(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "PAUSE", 0.01)
    loop = asyncio.get_running_loop()
    async with listening() as found:
        with socket.socket() as client:
            client.setblocking(False)
            with no_more_files(), caplog.at_level(logging.ERROR):
                await loop.sock_connect(client, found.name)
                await eventually(lambda: len(caplog.records) > 1)
            assert "let in" in caplog.text and "Too many open files" in caplog.text
            assert await loop.sock_recv(client, 100) == b"hello 127.0.0.1"


async def test_it_can_be_closed_while_there_is_no_room(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    async with listening() as found:
        with socket.socket() as client:
            client.setblocking(False)
            with no_more_files():
                await loop.sock_connect(client, found.name)
                await eventually(lambda: len(caplog.records) > 0)
                found.close()
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(client, 100)


@pytest.mark.parametrize("path", ["/", "/docs", "/hourglass.py", "/client/app/app.js"])
async def test_a_file_for_which_there_is_no_room_is_there_later(serve: Serve, path: str) -> None:
    downloads.cache_clear()
    app = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    with no_more_files():
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b"HTTP/1.1 ")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"503 ") and b"\r\nretry-after: 1\r\n" in head
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"HTTP/1.1 200 ")
    writer.close()
