"""The command line behind an HTTP proxy, and with certificates of its own."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from server.app import App
from tests.conftest import Serve
from tests.support.cli import Cli
from tests.support.network import Proxy, answering
from tests.support.servers import command
from tests.support.tls import self_signed
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.slow

ESTABLISHED = "HTTP/1.1 200 Connection established"
HOST = "hourglass.test"
"""A name that only the proxy knows."""


class HttpProxy:
    """Connects whoever asks to one server, whatever host they ask for."""

    def __init__(self, port: int, status: str) -> None:
        self.asked: list[str] = []
        """The heads of all requests."""
        self.port = 0
        self._status = status
        self._server_port = port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"{self._status}\r\nVia: a test\r\n\r\n".encode())
        if self._status == ESTABLISHED:
            back, forth = await asyncio.open_connection("127.0.0.1", self._server_port)
            try:
                await asyncio.gather(pump(reader, forth), pump(back, writer))
            finally:
                forth.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def proxy_to(port: int, status: str = ESTABLISHED) -> AsyncIterator[HttpProxy]:
    found = HttpProxy(port, status)
    async with answering(found.serve) as found.port:
        yield found


async def test_a_proxy_connects_us_with_and_without_tls(serve: Serve, tmp_path: Path) -> None:
    app = await serve(auth_secret=SECRET)
    key, certificate = self_signed(tmp_path, f"DNS:{HOST}")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    environ = {"SSL_CERT_FILE": certificate, "HOURGLASS_TOKEN": token()}
    async with AsyncExitStack() as stack:
        encrypted = await stack.enter_async_context(Proxy(app.url, tls=tls))
        port = urlsplit(encrypted.url).port
        proxy = await stack.enter_async_context(proxy_to(port or 0))
        environ["HTTPS_PROXY"] = f"http://ana:s%40fe@{proxy.address}"
        async with Cli(f"https://{HOST}", "run", "--", "true", **environ) as cli:
            assert (await cli.end(), cli.said) == (0, "")
    assert proxy.asked[0].startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'ana:s@fe').decode()}" in proxy.asked[0]
    async with proxy_to(app.port) as proxy:
        environ["http_proxy"] = proxy.address
        async with Cli(f"http://{HOST}:8000", "run", "--", "true", **environ) as cli:
            assert (await cli.end(), cli.said) == (0, "")
    assert proxy.asked[0].startswith(f"CONNECT {HOST}:8000 HTTP/1.1\r\n")
    assert [job["outcome"] for job in (await command(app, "history"))["jobs"]] == ["done", "done"]


@pytest.mark.parametrize(
    ("address", "environ"),
    [
        ("", {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}),
        (f"http://{HOST}", {"ALL_PROXY": "http://127.0.0.1:9", "NO_PROXY": f"other, {HOST}"}),
        (f"http://{HOST}", {"ALL_PROXY": "http://127.0.0.1:9", "NO_PROXY": ".test"}),
        (f"http://{HOST}", {"HTTPS_PROXY": "http://127.0.0.1:9"}),
    ],
)
async def test_no_proxy_is_used_where_none_should_be(
    app: App, address: str, environ: dict[str, str]
) -> None:
    async with Cli(address or app.url, "status", **environ) as cli:
        code = await cli.end()
    assert "127.0.0.1:9" not in cli.said
    assert code == (5 if address else 0), "its name is known to no resolver"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("HTTP/1.1 407 Proxy Authentication Required", "HTTP 407"),
        ("SSH-2.0", "it is no HTTP proxy"),
    ],
)
async def test_a_proxy_that_does_not_want_is_told(app: App, status: str, said: str) -> None:
    async with proxy_to(app.port, status) as proxy:
        environ = {"ALL_PROXY": f"http://ana:safe@{proxy.address}"}
        async with Cli(f"http://{HOST}", "status", **environ) as cli:
            code, told = await cli.end(), cli.said
    assert code == 5
    assert f"the proxy 127.0.0.1 does not connect us to {HOST}:80" in told and said in told
    assert "safe" not in told, "the password of the proxy"


async def test_a_proxy_of_another_kind_is_told() -> None:
    environ = {"ALL_PROXY": "socks5://ana:safe@127.0.0.1:9"}
    async with Cli(f"http://{HOST}", "status", **environ) as cli:
        assert await cli.end() == 5
    assert "a proxy has to begin with http://, not with socks5://" in cli.said
    assert "safe" not in cli.said


async def test_certificates_that_are_not_there_are_told(tmp_path: Path) -> None:
    environ = {"SSL_CERT_FILE": str(tmp_path / "none.pem")}
    async with Cli("https://127.0.0.1:9", "status", **environ) as cli:
        assert await cli.end() == 5
    assert f"SSL_CERT_FILE names {tmp_path}/none.pem, which cannot be read" in cli.said
