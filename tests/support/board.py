"""What a person does on the dashboard, in the words of the tests."""

from typing import Any

from playwright.async_api import Browser, Locator, Page, expect

from tests.support.browsers import open_page

expect.set_options(timeout=10_000)


async def visit(browser: Browser, url: str, *, view: dict[str, Any] | None = None) -> Page:
    """A page of a person with a browser of their own, once it is live."""
    page = await open_page(await browser.new_context(**(view or {})), url)
    await live(page)
    return page


async def live(page: Page) -> None:
    await expect(page.locator("#connection")).to_have_text("Live", timeout=20_000)


async def offline(page: Page) -> None:
    await expect(page.locator("#connection")).to_contain_text("Offline since")


async def start(page: Page, connid: str, time: str, note: str = "") -> None:
    form = page.locator("#start")
    await form.locator("[name=connid]").fill(connid)
    await form.locator("[name=time]").fill(time)
    await form.locator("[name=note]").fill(note)
    await form.locator("button[type=submit]").click()


async def kill(page: Page, connid: str, reason: str = "") -> None:
    """Press a job's Kill, and answer the question that comes."""
    await running(page, connid).locator(".kill").click()
    await confirm(page, reason)


async def confirm(page: Page, reason: str = "") -> None:
    await page.locator("#kill-reason").fill(reason)
    await page.locator("#kill-dialog button[value=kill]").click()


def running(page: Page, connid: str) -> Locator:
    return page.locator(f'#running .job:not(.gone)[data-connid="{connid}"]')


def ended(page: Page, connid: str) -> Locator:
    return page.locator(f'#ended [data-connid="{connid}"]')


async def order(page: Page) -> list[str]:
    """The names of the rows in sight, from the top."""
    return await page.locator("#running .job").evaluate_all(
        "rows => rows.sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)"
        ".map(row => row.dataset.connid)"
    )
