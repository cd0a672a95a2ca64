"""The dashboard in a real browser: two of them in sync, restarts, hostile text, a missing CDN."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from server.app import App
from tests.conftest import Connect
from tests.support.browsers import chromium, open_page
from tests.support.servers import Process, command

HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>{{7*7}}"
expect.set_options(timeout=10_000)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


async def visit(browser: Browser, url: str, **options: Any) -> Page:
    """A page of a person with a browser of their own, once it is live."""
    page = await open_page(await browser.new_context(), url, **options)
    await expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    return page


async def start(page: Page, connid: str, time: str, note: str = "") -> None:
    form = page.locator("#start")
    await form.locator("[name=connid]").fill(connid)
    await form.locator("[name=time]").fill(time)
    await form.locator("[name=note]").fill(note)
    await form.locator("button[type=submit]").click()


def running(page: Page, connid: str) -> Any:
    return page.locator(f'#running [data-connid="{connid}"]')


def ended(page: Page, connid: str) -> Any:
    return page.locator(f'#ended [data-connid="{connid}"]')


async def test_two_browsers_see_a_job_start_count_down_and_be_killed(
    app: App, browser: Browser
) -> None:
    ana, bo = await visit(browser, app.url), await visit(browser, app.url)
    await start(ana, "nightly backup", "60", "weekly full")
    for page in (ana, bo):
        await expect(running(page, "nightly backup")).to_be_visible()
        await expect(running(page, "nightly backup")).to_contain_text("weekly full")
    assert await moves(bo, "nightly backup")
    await running(bo, "nightly backup").locator(".kill").click()
    for page in (ana, bo):
        await expect(running(page, "nightly backup")).to_have_count(0)
        await expect(ended(page, "nightly backup")).to_contain_text(re.compile("killed", re.I))
        assert page.errors == []  # type: ignore[attr-defined]


async def moves(page: Page, connid: str) -> bool:
    """Whether the bar and the time that is left go down."""
    row = running(page, connid)
    fill = "element => element.querySelector('.bar > .fill').style.transform"
    bar, left = await row.evaluate(fill), await row.locator(".left").inner_text()
    await expect(row.locator(".left")).not_to_have_text(left)
    return bool(await row.evaluate(fill) != bar)


async def test_a_job_ends_by_itself_in_every_browser(app: App, browser: Browser) -> None:
    ana, bo = await visit(browser, app.url), await visit(browser, app.url)
    await start(ana, "short", "1.5")
    await expect(running(bo, "short")).to_be_visible()
    for page in (ana, bo):
        await expect(running(page, "short")).to_have_count(0)
        await expect(ended(page, "short")).to_be_visible()


async def test_a_browser_comes_back_after_a_restart_and_catches_up(
    tmp_path: Path, browser: Browser, connect: Connect
) -> None:
    async with Process(tmp_path / "jobs.db") as server:
        page = await visit(browser, server.url)
        await start(page, "before", "600")
        await expect(running(page, "before")).to_be_visible()
        await server.kill()
        connection = page.locator("#connection")
        await expect(connection).not_to_have_attribute("data-state", "live")
        await expect(running(page, "before")).to_be_visible()
        await server.start()
        client = await connect(server.url, "websocket", rooms=[])
        await client.command("request", {"connid": "after", "time": 600})
        await expect(connection).to_have_attribute("data-state", "live", timeout=20_000)
        await expect(running(page, "after")).to_be_visible()
        await expect(running(page, "before")).to_be_visible()


async def test_nothing_fires_by_itself_after_an_outage(tmp_path: Path, browser: Browser) -> None:
    async with Process(tmp_path / "jobs.db") as server:
        page = await visit(browser, server.url)
        await start(page, "job", "600")
        await expect(running(page, "job")).to_be_visible()
        await server.kill()
        await expect(page.locator("#connection")).not_to_have_attribute("data-state", "live")
        await running(page, "job").locator(".kill").click(force=True)
        await server.start()
        await expect(page.locator("#connection")).to_have_attribute(
            "data-state", "live", timeout=20_000
        )
        await start(page, "next", "600")
        await expect(running(page, "next")).to_be_visible()
        await expect(running(page, "job")).to_be_visible()


async def test_text_of_users_is_never_markup(app: App, browser: Browser, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"], name=HOSTILE[:64])
    page = await visit(browser, app.url)
    answer = await client.command("request", {"connid": HOSTILE, "time": 60, "note": HOSTILE})
    row = page.locator(f'[data-run="{answer["job"]["run"]}"]')
    await expect(row).to_contain_text(HOSTILE)
    progress = {"connid": HOSTILE, "run": answer["job"]["run"], "done": 0.5, "note": HOSTILE}
    await client.command("progress", progress)
    await expect(page.locator("#watching")).to_contain_text(HOSTILE[:20])
    await client.command("kill", {"connid": HOSTILE, "reason": HOSTILE})
    await expect(page.locator(f'[data-ended="{answer["job"]["run"]}"]')).to_contain_text(HOSTILE)
    await page.goto(f"{app.url}/?room={HOSTILE}")
    await asyncio.sleep(0.2)
    assert await page.evaluate("() => window.hacked") is None
    assert await page.locator("img[src=x]").count() == 0


async def test_errors_are_shown_at_their_fields(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await start(page, "job", "-1")
    await expect(page.locator('[data-error-for="time"]')).to_contain_text("above 0")
    await start(page, "", "60")
    await expect(page.locator('[data-error-for="connid"]')).to_contain_text("1 to 128")
    await start(page, "job", "60")
    await expect(running(page, "job")).to_be_visible()
    await start(page, "job", "60")
    await expect(page.locator('[data-error-for="connid"]')).to_contain_text("running already")


async def test_who_is_there_is_shown_by_name(app: App, browser: Browser) -> None:
    ana = await visit(browser, app.url)
    await ana.locator("#name").fill("Ana")
    await ana.locator("#name").press("Enter")
    bo = await visit(browser, app.url)
    await expect(bo.locator("#watching")).to_contain_text("Ana")
    await start(ana, "job", "60")
    await expect(running(bo, "job")).to_contain_text("Ana")


async def test_rooms_are_chosen_by_the_address(app: App, browser: Browser) -> None:
    page = await visit(browser, f"{app.url}/?room=ops")
    await command(app, "request", connid="elsewhere", time=60)
    await command(app, "request", connid="here", time=60, room="ops")
    await expect(running(page, "here")).to_be_visible()
    await expect(running(page, "elsewhere")).to_have_count(0)


async def test_a_missing_cdn_is_said_in_words(app: App, browser: Browser) -> None:
    page = await open_page(await browser.new_context(), app.url, cdn=False)
    await expect(page.locator("#notice .text")).to_contain_text("cdn.socket.io")
    await expect(page.locator("#connection")).to_have_attribute("data-state", "offline")
