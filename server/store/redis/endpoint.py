"""Where `REDIS_URL` points, and how connections get there."""

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from server.config import Config
from server.store.interface import StoreError

SENTINEL_PORT = 26379
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
CREDENTIALS = ("username", "password")
OPTIONS = ("db", *CREDENTIALS, "protocol", "sentinel_password", *TLS_OPTIONS)
"""What may follow `?`. The protocol is taken, as others' URLs have it, and is 2 all the same."""
NAME = re.compile(r"[a-z_]{1,32}")


class RedisEndpoint:
    """Makes connections to the Redis that `REDIS_URL` names, or that sentinels do."""

    def __init__(self, config: Config) -> None:
        """Raises `StoreError`."""
        scheme, _, rest = config.redis_url.partition("://")
        self.shown = f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
        """The address without the password."""
        kind = scheme.replace("valkey", "redis")
        self._sentinels: list[Redis] = []
        try:
            if "@" in rest.partition("?")[2] or "#" in rest:
                raise ValueError("a special character of the password")
            given = options(rest.partition("?")[2], tls=kind.startswith("rediss"))
            shared = self._shared(config, kind, given)
            if kind in ("redis+sentinel", "rediss+sentinel"):
                self._pool = self._behind_sentinels(f"{kind}://{rest}", shared, given)
            else:
                if kind == "unix":
                    del shared["socket_keepalive"]  # It has none.
                url = f"{kind}://{rest.partition('?')[0]}"
                said: dict[str, Any] = {name: given[name] for name in CREDENTIALS if name in given}
                if "db" in given:
                    said["db"] = int(given["db"])
                self._pool = ConnectionPool.from_url(url, **shared, **said)
        except ValueError:  # What it says may be a part of the password.
            raise StoreError(
                "REDIS_URL cannot be used: it must be like redis://user:password@host:6379/0,"
                " unix:///path or redis+sentinel://user:password@host:26379,host:26379/SERVICE,"
                " with special characters written as %XX"
            ) from None

    def connection(self) -> AbstractConnection:
        """A connection that is not connected yet."""
        made: AbstractConnection = self._pool.make_connection()
        return made

    async def close(self) -> None:
        """Close the connections to the sentinels."""
        for sentinel in self._sentinels:
            await sentinel.aclose()

    def _shared(self, config: Config, kind: str, given: dict[str, str]) -> dict[str, Any]:
        """What every connection is made with."""
        shared: dict[str, Any] = {
            "socket_timeout": None,  # Each wait has its own bound, and one waits on purpose.
            "socket_connect_timeout": config.redis_timeout,
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),
            "client_name": "hourglass",
            "protocol": 2,  # RESP3 answers XREAD with a map.
        }
        if kind.startswith("rediss"):
            shared["ssl_cert_reqs"] = "required" if config.redis_tls_verify else "none"
            shared["ssl_check_hostname"] = config.redis_tls_verify
            shared |= {name: given[name] for name in TLS_OPTIONS if name in given}
        return shared

    def _behind_sentinels(
        self, url: str, shared: dict[str, Any], given: dict[str, str]
    ) -> ConnectionPool:
        """The pool for `redis+sentinel://user:password@host:port,host:port/SERVICE/DB`."""
        parts = urlsplit(url)
        credentials, _, places = parts.netloc.rpartition("@")
        service, _, db = parts.path.strip("/").partition("/")
        if not service:
            raise ValueError("it must name the service after the sentinels: …:26379/SERVICE")
        user, _, password = credentials.partition(":")
        tls = parts.scheme.startswith("rediss")
        sentinels = Sentinel(
            [address(place) for place in places.split(",")],
            sentinel_kwargs={
                **shared,
                "socket_timeout": shared["socket_connect_timeout"],
                "password": given.get("sentinel_password"),
                "ssl": tls,
            },
        )
        self._sentinels = sentinels.sentinels
        master: Redis = sentinels.master_for(
            service,
            username=given.get("username", unquote(user)) or None,
            password=given.get("password", unquote(password)) or None,
            db=int(given.get("db", db) or 0),
            ssl=tls,
            **shared,
        )
        return master.connection_pool


def options(query: str, *, tls: bool) -> dict[str, str]:
    """The options after `?`. Raises `StoreError` where one is unknown, has no value, or needs TLS,
    and `ValueError` where it is none."""
    found = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    for name, value in found.items():
        if not NAME.fullmatch(name):
            raise ValueError("an option has a strange name")
        if name not in OPTIONS:
            known = ", ".join(OPTIONS)
            raise StoreError(f"REDIS_URL has the unknown option {name}: there are {known}")
        if not value:
            raise StoreError(f"REDIS_URL has the option {name} without a value")
        if name in TLS_OPTIONS and not tls:
            raise StoreError(f"REDIS_URL has the option {name}, which needs rediss://")
    return found


def address(place: str) -> tuple[str, int]:
    """The host and the port of a sentinel: `host`, `host:port` or `[::1]:port`. Raises
    `ValueError`."""
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError("a sentinel has no host")
    return parts.hostname, parts.port or SENTINEL_PORT
