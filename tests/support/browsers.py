"""A real Chromium, with the CDN answered from `node_modules`, so that `integrity` is checked."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, BrowserContext, Page, Route, async_playwright

from tests.support.servers import ROOT

SOCKETIO = ROOT / "node_modules/socket.io-client/dist/socket.io.min.js"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless browser; that of the system, named `chromium`."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "Chromium is missing: `make test` says how to install it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


async def open_page(context: BrowserContext, url: str, *, cdn: bool = True) -> Page:
    """A page of the dashboard that fails the test when a script of its own fails."""

    async def answer(route: Route) -> None:
        if cdn:
            await route.fulfill(path=SOCKETIO, headers={"Access-Control-Allow-Origin": "*"})
        else:
            await route.abort()

    await context.route("https://cdn.socket.io/**", answer)
    page = await context.new_page()
    page.errors = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.errors.append(str(error)))  # type: ignore[attr-defined]
    await page.goto(url)
    return page
