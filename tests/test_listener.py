"""How connections are let in."""

import asyncio
import inspect
import logging
import os
import resource
import socket
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from server import listener
from server.listener import Listener
from tests.support.servers import eventually


class Greeter(asyncio.Protocol):
    """Says hello to whoever comes, by the address that it sees."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello %b" % transport.get_extra_info("peername")[0].encode())
        transport.close()


@asynccontextmanager
async def listening(host: str = "127.0.0.1") -> AsyncIterator[Listener]:
    found = Listener(Greeter)
    await found.open(host, 0)
    try:
        yield found
    finally:
        found.close()


@contextmanager
def no_more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_the_listener_leans_on_is_there() -> None:
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
    monkeypatch.setattr(listener, "PAUSE", 0.01)
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
