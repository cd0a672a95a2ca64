"""What `REDIS_URL` may say."""

import ssl
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from server.config import Config
from server.store.interface import StoreError
from server.store.redis.endpoint import RedisEndpoint, address
from tests.support import redis
from tests.support.network import Proxy
from tests.support.redis import Sentinel, SocketServer, TlsServer
from tests.support.servers import command, serving

pytestmark = [pytest.mark.redis]


async def works(url: str, **settings: Any) -> None:
    """A server at this address starts a job, and hears of it."""
    async with serving(redis_url=url, redis_prefix=token_hex(8), **settings) as app:
        assert (await command(app, "request", connid="a", time=60))["ok"]
        board = await app.store.board("main")
        assert list(board.running) == ["a"]


async def test_a_unix_socket_is_reached(tmp_path: Path) -> None:
    with SocketServer(tmp_path) as server:
        for query in ("", "?db=1"):
            await works(f"unix://{server.path}{query}")


@pytest.mark.parametrize("query", ["", "?protocol=2", "?protocol=3", "?db=1"])
@pytest.mark.parametrize("scheme", ["redis", "valkey"])
async def test_it_works_whatever_protocol_is_asked_for(scheme: str, query: str) -> None:
    url = redis.shared().url.replace("redis://", f"{scheme}://").rpartition("/")[0]
    await works(f"{url}{query}")


async def test_a_password_may_be_an_option(tmp_path: Path) -> None:
    with redis.RedisServer(tmp_path) as server:
        await server.call("CONFIG", "SET", "requirepass", "of@all:kinds")
        await works(f"{server.url}?password=of%40all%3Akinds")


async def test_a_private_authority_is_trusted(tmp_path: Path) -> None:
    with TlsServer(tmp_path) as server:
        certificate = tmp_path / "certificate"
        url = server.url.replace("rediss://", "valkeys://")
        await works(f"{url}?ssl_ca_certs={certificate}")


async def test_sentinels_are_asked_over_tls(tmp_path: Path) -> None:
    for name in ("tls", "master", "sentinel"):
        (tmp_path / name).mkdir()
    with (
        TlsServer(tmp_path / "tls"),
        redis.RedisServer(tmp_path / "master") as master,
        Sentinel(tmp_path / "sentinel", master) as sentinel,
    ):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tmp_path / "tls/certificate", tmp_path / "tls/key")
        plain = sentinel.url.rpartition(",")[2].partition("/")[0]
        async with Proxy(f"redis://{plain}", tls=context) as proxy:
            place = proxy.url.partition("://")[2].partition("/")[0]
            url = f"rediss+sentinel://{place}/jobs"
            endpoint = RedisEndpoint(Config(redis_url=url, redis_tls_verify=False))
            pool: Any = endpoint._pool
            host, port = await pool.get_master_address()
            assert (host, int(port)) == ("127.0.0.1", master.port)
            await endpoint.close()


def test_the_address_of_a_sentinel_may_be_ipv6() -> None:
    assert address("[::1]:26380") == ("::1", 26380)
    assert address("[::1]") == ("::1", 26379)
    assert address("one") == ("one", 26379)
    assert address("10.0.0.1:7") == ("10.0.0.1", 7)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("foo=", "unknown option foo: there are db, "),
        ("socket_timeout=5", "unknown option socket_timeout"),
        ("db=", "option db without a value"),
        ("ssl_ca_certs=/x", "option ssl_ca_certs, which needs rediss://"),
        ("db=x", "it must be like redis://"),
    ],
)
def test_an_option_that_is_not_taken_is_named(query: str, told: str) -> None:
    with pytest.raises(StoreError, match=told.replace("?", "[?]")):
        RedisEndpoint(Config(redis_url=f"redis://127.0.0.1:6379/0?{query}"))


@pytest.mark.parametrize("url", ["redis://:a?secret=b@host", "redis://:a#secret@host"])
def test_no_error_shows_a_part_of_the_password(url: str) -> None:
    with pytest.raises(StoreError) as error:
        RedisEndpoint(Config(redis_url=url))
    assert "secret" not in str(error.value)
