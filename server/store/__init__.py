"""Stores: they make commands durable. `open_store` picks the kind that the settings ask for."""

from server.clock import Clock
from server.config import Config
from server.store.interface import Store


def open_store(config: Config, clock: Clock | None = None) -> Store:
    """The store that the settings ask for, not yet opened; `clock` is to be its own."""
    clock = clock or Clock()
    if config.redis_url:
        from server.store.redis.store import RedisStore

        return RedisStore(config, clock)
    from server.store.embedded.store import EmbeddedStore

    return EmbeddedStore(config, clock)
