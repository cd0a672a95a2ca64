"""The dashboard in a real browser: two in sync, restarts, lost networks, hostile text."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from server.app import App
from tests.conftest import Connect
from tests.support.board import confirm, ended, kill, live, offline, running, start, visit
from tests.support.browsers import open_page
from tests.support.servers import Process, command

HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>{{7*7}}"


async def test_two_browsers_see_a_job_start_count_down_and_be_killed(
    app: App, browser: Browser
) -> None:
    ana, bo = await visit(browser, app.url), await visit(browser, app.url)
    await start(ana, "nightly backup", "60", "weekly full")
    for page in (ana, bo):
        await expect(running(page, "nightly backup")).to_be_visible()
        await expect(running(page, "nightly backup")).to_contain_text("weekly full")
    assert await moves(bo, "nightly backup")
    await kill(bo, "nightly backup", "wrong month")
    for page in (ana, bo):
        await expect(running(page, "nightly backup")).to_have_count(0)
        await expect(ended(page, "nightly backup")).to_contain_text(re.compile("killed", re.I))
        await expect(ended(page, "nightly backup")).to_contain_text("wrong month")
        assert page.errors == []  # type: ignore[attr-defined]


async def moves(page: Page, connid: str) -> bool:
    """Whether the bar and the time that is left go down."""
    row = running(page, connid)
    fill = "element => element.querySelector('.bar > .fill').style.transform"
    bar, left = await row.evaluate(fill), await row.locator(".left").inner_text()
    await expect(row.locator(".left")).not_to_have_text(left)
    return bool(await row.evaluate(fill) != bar)


async def test_a_date_that_is_set_in_the_browser_changes_no_countdown(
    app: App, browser: Browser
) -> None:
    page = await visit(browser, app.url)
    await start(page, "backup", "600")
    await expect(running(page, "backup")).to_be_visible()
    set_date = "by => { const now = Date.now.bind(Date); Date.now = () => now() + by * 1000; }"
    for step in (3600, -7200):
        await page.evaluate(set_date, step)
        assert await moves(page, "backup")
        await expect(running(page, "backup").locator(".left")).to_have_text(re.compile(r"^9:\d\d$"))


async def test_a_job_ends_by_itself_or_by_its_owner_in_every_browser(
    app: App, browser: Browser
) -> None:
    ana, bo = await visit(browser, app.url), await visit(browser, app.url)
    await start(ana, "short", "1.5")
    job = (await command(app, "request", connid="work", time=60))["job"]
    await expect(running(bo, "work")).to_be_visible()
    report = {"connid": "work", "run": job["run"]}
    await command(app, "progress", **report, done=0.25, note="1 of 4")
    for page in (ana, bo):
        await expect(running(page, "work").locator(".percent")).to_have_text("25%")
    await command(app, "finish", **report, outcome="failed", result={"rows": 12})
    for page in (ana, bo):
        await expect(running(page, "short")).to_have_count(0)
        await expect(ended(page, "short")).to_contain_text("Time ran out")
        await expect(ended(page, "work")).to_contain_text("Failed")
        await expect(ended(page, "work")).to_contain_text('{"rows":12}')


async def test_a_browser_comes_back_after_a_restart_and_catches_up(
    tmp_path: Path, browser: Browser, connect: Connect
) -> None:
    async with Process(tmp_path / "jobs.db") as server:
        pages = [await visit(browser, server.url), await visit(browser, server.url)]
        await start(pages[0], "before", "600")
        await expect(running(pages[1], "before")).to_be_visible()
        await server.kill()
        for page in pages:
            await offline(page)
            await expect(page.locator("#retry")).to_contain_text("trying")
            await expect(page.locator("#notice .text")).to_contain_text("The list is as it was")
            await expect(running(page, "before")).to_be_visible()
        await server.start()
        client = await connect(server.url, "websocket", rooms=[])
        await client.command("request", {"connid": "after", "time": 600})
        await client.command("kill", {"connid": "before"})
        for page in pages:
            await live(page)
            await expect(running(page, "after")).to_be_visible()
            await expect(running(page, "before")).to_have_count(0)
            await expect(page.locator("#notice .text")).to_be_hidden()
            assert page.errors == []  # type: ignore[attr-defined]


async def test_a_dropped_network_is_said_and_made_up_for(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await command(app, "request", connid="before", time=600)
    await expect(running(page, "before")).to_be_visible()
    await page.context.set_offline(True)
    await offline(page)
    await command(app, "kill", connid="before")
    await command(app, "request", connid="meanwhile", time=600)
    await page.context.set_offline(False)
    await live(page)
    await expect(running(page, "meanwhile")).to_be_visible()
    await expect(ended(page, "before")).to_be_visible()


async def test_nothing_fires_by_itself_after_an_outage(tmp_path: Path, browser: Browser) -> None:
    async with Process(tmp_path / "jobs.db") as server:
        page = await visit(browser, server.url)
        await start(page, "job", "600")
        await expect(running(page, "job")).to_be_visible()
        await server.kill()
        await offline(page)
        await kill(page, "job")
        await expect(running(page, "job").locator(".error")).to_contain_text("nothing was sent")
        await server.start()
        await live(page)
        await start(page, "next", "600")
        await expect(running(page, "next")).to_be_visible()
        await expect(running(page, "job")).to_be_visible()
        await expect(running(page, "job").locator(".error")).to_be_hidden()


async def test_an_unanswered_kill_is_said_to_be_unanswered(
    app: App, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = await visit(browser, app.url)
    await command(app, "request", connid="job", time=600)
    asked = asyncio.Event()

    def never(*_: object) -> None:
        asked.set()

    monkeypatch.setattr(app.commands, "execute", never)
    await kill(page, "job")
    await expect(running(page, "job").locator(".kill")).to_have_text("Killing")
    await asyncio.wait_for(asked.wait(), 10)
    monkeypatch.undo()
    await page.context.set_offline(True)
    await expect(running(page, "job").locator(".error")).to_contain_text("No answer came")
    await page.context.set_offline(False)
    await live(page)
    await expect(running(page, "job").locator(".error")).to_contain_text("No answer came")
    await expect(page.locator(".toast")).to_contain_text("It may have worked")


async def test_text_of_users_is_never_markup(app: App, browser: Browser, connect: Connect) -> None:
    client = await connect(app.url, "websocket", rooms=["main"], name=HOSTILE[:64])
    page = await visit(browser, app.url)
    answer = await client.command("request", {"connid": HOSTILE, "time": 60, "note": HOSTILE})
    run = answer["job"]["run"]
    row = page.locator(f'#running [data-run="{run}"]')
    await expect(row).to_contain_text(HOSTILE)
    progress = {"connid": HOSTILE, "run": run, "done": 0.5, "note": HOSTILE}
    await client.command("progress", progress)
    await expect(row.locator(".progress-note")).to_have_text(HOSTILE)
    await expect(page.locator("#watching")).to_contain_text(HOSTILE[:20])
    await row.locator(".connid").click()
    await expect(page.locator("#detail .life")).to_contain_text(HOSTILE)
    await row.locator(".kill").click()
    await expect(page.locator("#kill-title")).to_contain_text(HOSTILE)
    await confirm(page, HOSTILE)
    await expect(page.locator(f'[data-ended="{run}"]')).to_contain_text(HOSTILE)
    await expect(page.locator("#detail .life")).to_contain_text("Killed")
    again = (await client.command("request", {"connid": HOSTILE, "time": 60}))["job"]
    done = {"connid": HOSTILE, "run": again["run"], "result": {HOSTILE: HOSTILE}}
    await client.command("finish", done)
    await page.keyboard.press("2")
    await expect(page.locator(f'#history [data-run="{again["run"]}"]')).to_contain_text(HOSTILE)
    await page.locator("#detail .close").click()
    await page.locator("#search").fill(HOSTILE)
    await page.locator("#by").select_option(HOSTILE[:64])
    await start(page, HOSTILE, HOSTILE, HOSTILE)
    await expect(page.locator('[data-error-for="time"]')).to_contain_text("seconds")
    for parameter in ("room", "q", "by", "state", "job", "only"):
        await page.goto(f"{app.url}/?{parameter}={HOSTILE}#token={HOSTILE}")
        await expect(page.locator("#connection")).to_have_text("Live")
    assert await page.evaluate("() => window.hacked") is None
    assert await page.locator("img[src=x]").count() == 0
    assert page.errors == []  # type: ignore[attr-defined]


async def test_errors_are_shown_at_their_fields(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await start(page, "job", "-1")
    await expect(page.locator('[data-error-for="time"]')).to_contain_text("above 0")
    await start(page, "", "60")
    await expect(page.locator('[data-error-for="connid"]')).to_contain_text("1 to 128")
    await start(page, "job", "1m", "x" * 501)
    await expect(page.locator('[data-error-for="note"]')).to_contain_text("500 characters")


async def test_a_name_that_runs_already_can_be_shown_or_replaced(
    app: App, browser: Browser
) -> None:
    page = await visit(browser, app.url)
    await start(page, "job", "60")
    await expect(running(page, "job")).to_be_visible()
    await start(page, "job", "1h 30m")
    await expect(page.locator('[data-error-for="connid"]')).to_contain_text("running already")
    await page.locator(".watch-it").click()
    await expect(page.locator("#detail-title")).to_have_text("job")
    await page.locator("#detail .close").click()
    await page.locator(".replace-it").click()
    await expect(running(page, "job").locator(".total")).to_have_text("of 1h 30m")
    await expect(ended(page, "job")).to_contain_text("replaced")


async def test_the_last_values_are_remembered(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await start(page, "backup", "2h", "weekly")
    await expect(running(page, "backup")).to_be_visible()
    await page.reload()
    await expect(page.locator("#time")).to_have_value("2h")
    await page.locator("#connid").fill("backup")
    await expect(page.locator("#note")).to_have_value("weekly")


async def test_who_is_there_is_shown_by_name(app: App, browser: Browser) -> None:
    ana = await visit(browser, app.url)
    await ana.locator("#menu-button").click()
    await ana.locator("#name").fill("Ana")
    await ana.locator("#name").press("Enter")
    await ana.keyboard.press("Escape")
    bo = await visit(browser, app.url)
    await expect(bo.locator("#watching")).to_contain_text("2 watching")
    await expect(bo.locator("#watching")).to_contain_text("Ana")
    await start(ana, "job", "60")
    await expect(running(bo, "job")).to_contain_text("Ana")


async def test_a_missing_client_is_said_in_words(app: App, browser: Browser) -> None:
    page = await open_page(await browser.new_context(), app.url, cdn=False)
    await expect(page.locator("#notice .text")).to_contain_text("cdn.socket.io")
    await expect(page.locator("#connection")).to_have_text("Not connected")
    await expect(page.locator("#charts .missing")).to_contain_text("cdn.jsdelivr.net")
