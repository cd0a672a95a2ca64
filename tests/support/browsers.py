"""A real Chromium, with the CDN answered from `node_modules`, so that `integrity` is checked."""

import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, Route, async_playwright

from tests.support.servers import ROOT

MODULES = ROOT / "node_modules"
CDN = {
    "https://cdn.socket.io/4.8.3/": MODULES / "socket.io-client/dist",
    "https://cdn.jsdelivr.net/npm/uplot@1.6.32/dist/": MODULES / "uplot/dist",
}
"""The addresses that the page loads from, and where the same files are here."""
AXE = (MODULES / "axe-core/axe.min.js").read_text()
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
    """A page of the dashboard, which keeps the `errors` of its own scripts."""
    await answer_cdn(context, cdn)
    context.set_default_timeout(10_000)
    page = await context.new_page()
    errors: list[str] = []
    page.errors = errors  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(url)
    return page


async def answer_cdn(context: BrowserContext, there: bool = True) -> None:
    """Answer what the page loads from elsewhere; all else that is not on this machine fails."""

    async def answer(route: Route) -> None:
        folder, _, name = route.request.url.rpartition("/")
        found = CDN.get(f"{folder}/") if there else None
        if found:
            await route.fulfill(path=found / name, headers={"Access-Control-Allow-Origin": "*"})
        else:
            await route.abort()

    await context.route(re.compile("^https://"), answer)


async def check_with_axe(page: Page, what: str) -> None:
    """Fail where axe finds something in the page as it is now, in the light or in the dark.

    The rules about colours are tried in both, all others once.
    """
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(AXE)
    every: dict[str, Any] = {"resultTypes": ["violations"]}
    colours = {**every, "runOnly": ["color-contrast", "link-in-text-block"]}
    for scheme, options in (("light", every), ("dark", colours)):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.evaluate("document.getAnimations().forEach(animation => animation.finish())")
        found = await page.evaluate(
            "async options => (await axe.run(options)).violations.map(({ id, nodes }) =>"
            " [id, nodes.slice(0, 3).map(({ html, failureSummary }) => [html, failureSummary])])",
            options,
        )
        assert found == [], f"{what}, {scheme}: {json.dumps(found, indent=1)}"
