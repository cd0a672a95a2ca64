"""Fixtures: a server for each test that asks for one, and clients that are closed after it.

The tests of a module share an event loop, and a browser where they ask for one.

The tests of modules that are marked `each_store` run once on each kind of store, unless they are
marked `embedded`.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from server.app import App
from tests.support import examples, generated, redis, returning
from tests.support.browsers import chromium
from tests.support.clients import CLIENTS, TestClient
from tests.support.servers import serving

Serve = Callable[..., Awaitable[App]]
Connect = Callable[..., Awaitable[TestClient]]
Settings = dict[str, Any]
Tell = Callable[[str], None]
TOLD = pytest.StashKey[list[str]]()
ON_REDIS = pytest.param("redis", marks=pytest.mark.redis)


def pytest_configure() -> None:
    """Hear what a run in the foreground hears.

    Behind `nohup` or a script's `&` some signals are ignored, and all programs that the tests start
    would inherit that.
    """
    defaults: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGQUIT: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    for signum, default in defaults.items():
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, default)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        both = marked("each_store") and not marked("embedded")
        metafunc.parametrize("store", ["sqlite", ON_REDIS] if both else ["sqlite"], scope="module")


@pytest.hookimpl(tryfirst=True)  # Before what is not marked is left out.
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if "empty_browser" in item.fixturenames:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.elsewhere)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the programs of other languages built while other tests run.

    Of several processes that run them it is the first that does.
    """
    first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    if first and not session.config.option.collectonly:
        of: dict[str, list[Any]] = {}
        for item in session.items:
            of.setdefault(item.path.stem, []).append(item)
        if "test_generated" in of:
            generated.begin_build()
        if "test_returning" in of:
            returning.begin_builds()
        wanted = of.get("test_examples", [])
        parameters = [item.callspec.params for item in wanted if hasattr(item, "callspec")]
        examples.begin_builds({found["name"] for found in parameters if "name" in found})


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Have the run say at its end how much a test has done."""
    return request.config.stash.setdefault(TOLD, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(TOLD, []):
        terminalreporter.write_line(line)


def pytest_sessionfinish() -> None:
    examples.stop_builds()


@pytest.fixture(autouse=True)
async def clear_the_loop() -> AsyncIterator[None]:
    """Take from the loop what a test leaves in it, so that the next one is by itself."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    asyncio.get_running_loop().set_exception_handler(None)


@pytest.fixture
def kept(store: str, tmp_path: Path) -> Settings:
    """The settings of a log that outlives its server."""
    return redis.settings() if store == "redis" else {"database": str(tmp_path / "jobs.db")}


@pytest.fixture
def new_log(store: str) -> Callable[[], Settings]:
    """The settings of a new log, each time."""
    return redis.settings if store == "redis" else dict


@pytest.fixture
async def serve(new_log: Callable[[], Settings]) -> AsyncIterator[Serve]:
    """Start servers with settings, each with a log of its own; they are stopped when the test
    ends."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> App:
            return await stack.enter_async_context(serving(**new_log(), **settings))

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


@pytest.fixture(scope="module")
async def empty_browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def browser(empty_browser: Browser) -> AsyncIterator[Browser]:
    """A browser without pages; what a test opens in it is closed when the test ends."""
    yield empty_browser
    for context in empty_browser.contexts:
        await context.close()
