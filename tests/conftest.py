"""Fixtures: a server for each test that asks for one, and clients that are closed after it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from server.app import App
from tests.support.clients import CLIENTS, TestClient
from tests.support.servers import serving

Serve = Callable[..., Awaitable[App]]
Connect = Callable[..., Awaitable[TestClient]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers with settings; they are stopped when the test ends."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> App:
            return await stack.enter_async_context(serving(**settings))

        yield start


@pytest.fixture
async def app(serve: Serve) -> App:
    """A server with the defaults, but no rate limit."""
    return await serve(rate_limit=0)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect clients: `await connect(url, "python", rooms=["main"])`."""
    async with AsyncExitStack() as stack:

        async def start(url: str, kind: str = "python", **hello: Any) -> TestClient:
            client = CLIENTS[kind]()
            await client.connect(url, **hello)
            stack.push_async_callback(client.close)
            return client

        yield start
