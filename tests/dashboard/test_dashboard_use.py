"""The dashboard in use: finding, killing many, rooms, links, keys, sign-in, thousands."""

import asyncio
import re
import time
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from server.app import App
from tests.conftest import Serve
from tests.support.board import confirm, ended, kill, live, order, running, start, visit
from tests.support.browsers import check_with_axe, open_page
from tests.support.servers import command
from tests.support.tokens import SECRET, token

PHONE = {"viewport": {"width": 390, "height": 844}}
WIDE: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}


async def fill(app: App, number: int, room: str = "main", seconds: float = 600) -> None:
    """Start `job-0001` and so on, each with a little more time than the one before."""
    starts = [
        command(app, "request", connid=f"job-{index:04}", time=seconds + index, room=room)
        for index in range(number)
    ]
    await asyncio.gather(*starts)


async def test_jobs_are_found_filtered_and_sorted(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await start(page, "backup of orders", "10m", "weekly")
    await command(app, "request", connid="import", time=60, note="orders too")
    await command(app, "request", connid="aaa", time=300)
    await expect(page.locator("#running .job")).to_have_count(3)
    await eventually_order(page, ["import", "aaa", "backup of orders"])
    await page.locator("#sort").select_option("name")
    await eventually_order(page, ["aaa", "backup of orders", "import"])
    await page.locator("#search").fill("ORDERS")
    await eventually_order(page, ["backup of orders", "import"])
    await expect(page.locator("#found")).to_have_text("2 of 3 jobs")
    await page.locator("#by").select_option("ana")
    await eventually_order(page, ["import"])
    await page.locator("#search").fill("nothing like it")
    await expect(page.locator("#running-none")).to_contain_text("No running job matches")
    await page.locator("#running-none .clear-filter").click()
    await expect(page.locator("#running .job")).to_have_count(3)


async def test_a_job_that_will_not_make_it_is_marked_and_found(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url, view=WIDE)
    slow = (await command(app, "request", connid="slow", time=20))["job"]
    fast = (await command(app, "request", connid="fast", time=20))["job"]
    mark = page.locator("[data-connid=slow] .behind")
    done = 0.0
    async with asyncio.timeout(20):
        while not await mark.is_visible():
            done += 0.0001  # What says the same again is no report.
            await command(app, "progress", connid="fast", run=fast["run"], done=0.9 + done)
            await command(app, "progress", connid="slow", run=slow["run"], done=done)
            await asyncio.sleep(0.1)
    await expect(mark).to_have_text("will not make it")
    await expect(page.locator("[data-connid=fast] .behind")).to_be_hidden()
    await page.locator("#state").select_option("behind")
    await expect(page.locator("#running .job")).to_have_count(1)
    await page.locator("[data-connid=slow] .connid").click()
    await expect(page.locator("#detail .facts")).to_contain_text("after its time is over")


async def eventually_order(page: Page, expected: list[str]) -> None:
    async with asyncio.timeout(10):
        while await order(page) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_rows_hold_still_under_the_pointer(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url, view=WIDE)
    await fill(app, 3)
    await expect(page.locator("#running .job")).to_have_count(3)
    await page.locator('[data-connid="job-0001"]').hover()
    await command(app, "kill", connid="job-0000", reason="gone")
    await command(app, "request", connid="urgent", time=30)
    await expect(running(page, "urgent")).to_be_visible()
    assert await order(page) == ["job-0000", "job-0001", "job-0002", "urgent"]
    await expect(page.locator(".job.gone")).to_contain_text("Killed")
    await page.mouse.move(5, 5)
    await eventually_order(page, ["urgent", "job-0001", "job-0002"])


async def test_ended_jobs_hold_still_under_the_pointer(app: App, browser: Browser) -> None:
    await fill(app, 2)
    await command(app, "kill", connid="job-0000")
    page = await visit(browser, f"{app.url}/?view=ended", view=WIDE)
    await page.locator("#history .past").hover()
    await command(app, "kill", connid="job-0001")
    await expect(ended(page, "job-0001")).to_be_visible()
    await expect(page.locator("#history .past")).to_have_count(1)
    await page.mouse.move(5, 5)
    await expect(page.locator("#history .past")).to_have_count(2)


async def test_all_that_match_are_killed_with_one_question(app: App, browser: Browser) -> None:
    ana, bo = await visit(browser, app.url), await visit(browser, app.url)
    await fill(app, 300)
    await command(app, "request", connid="other", time=900)
    await ana.locator("#search").fill("job-")
    await expect(ana.locator("#found")).to_have_text("300 of 301 jobs")
    await ana.locator("#select-all").check()
    await ana.locator('[data-connid="job-0002"] input').uncheck()
    await ana.locator("#kill-selected").click()
    await expect(ana.locator("#kill-title")).to_have_text("Kill 299 jobs?")
    await confirm(ana, "clean-up")
    await expect(ana.locator(".toast")).to_contain_text("Killed 299 jobs.")
    for page in (ana, bo):
        await expect(page.locator("#tab-running .number")).to_have_text("2")
        await expect(running(page, "job-0002")).to_be_visible()
    assert {job.reason for job in await app.store.history("main", None, None, 299)} == {"clean-up"}
    await expect(ana.locator("#selected-bar")).to_be_hidden()


async def test_what_a_kill_can_do_is_said_before_it(app: App, browser: Browser) -> None:
    await command(app, "request", connid="solo", time=900, stoppable="no")
    await command(app, "request", connid="thread", time=900, stoppable="cooperative")
    page = await visit(browser, app.url)
    button = running(page, "solo").locator(".kill")
    await expect(button).to_have_attribute("title", re.compile("cannot stop"))
    await button.click()
    await expect(page.locator("#kill-dialog .which")).to_contain_text("cannot stop its work")
    await page.keyboard.press("Escape")
    await page.locator("#select-all").check()
    await page.locator("#kill-selected").click()
    for said in ("cannot stop its work", "until it looks"):
        await expect(page.locator("#kill-dialog .which")).to_contain_text(said)


async def test_a_range_is_selected_with_shift(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await fill(app, 6)
    await page.locator('[data-connid="job-0001"] input').click()
    await page.locator('[data-connid="job-0004"] input').click(modifiers=["Shift"])
    await expect(page.locator("#selected-bar")).to_contain_text("4 selected")
    await command(app, "kill", connid="job-0002")
    await expect(page.locator("#selected-bar")).to_contain_text("3 selected")


async def test_a_link_shows_a_colleague_the_same(app: App, browser: Browser) -> None:
    ana = await visit(browser, app.url)
    await fill(app, 12, room="ops")
    await ana.goto(f"{app.url}/?room=main,ops")
    await ana.locator("#search").fill("job-000")
    await ana.locator("#sort").select_option("name")
    await ana.locator('[data-connid="job-0003"] .connid').click()
    await expect(ana.locator("#detail-title")).to_have_text("job-0003")
    bo = await visit(browser, ana.url)
    await expect(bo.locator("#detail-title")).to_have_text("job-0003")
    await expect(bo.locator("#search")).to_have_value("job-000")
    await expect(bo.locator("#running .job")).to_have_count(10)
    await expect(bo.locator('[data-room="ops"] .number')).to_have_text("12")
    await bo.locator("#detail .close").click()
    await expect(bo.locator("#detail")).to_be_hidden()
    await bo.go_back()
    await expect(bo.locator("#detail-title")).to_have_text("job-0003")


async def test_a_click_shows_the_whole_life_of_a_job(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    for reason in ("first", "second"):
        await command(app, "request", connid="job", time=60, note="weekly")
        await command(app, "kill", connid="job", reason=reason)
    job = (await command(app, "request", connid="job", time=60))["job"]
    await running(page, "job").locator(".facts").click()
    detail = page.locator("#detail")
    await expect(detail.locator(".state")).to_contain_text("left")
    await expect(detail.locator(".earlier li")).to_have_count(2)
    await command(app, "finish", connid="job", run=job["run"], result={"rows": 7})
    await expect(detail.locator(".state")).to_have_text("Done")
    await expect(detail.locator(".life")).to_contain_text('{"rows":7}')
    await detail.locator(".earlier a").last.click()
    await expect(detail.locator(".life")).to_contain_text("first")
    await expect(detail.locator(".life")).to_contain_text("Killed by ana")
    await detail.locator(".again").click()
    await expect(page.locator("#note")).to_have_value("weekly")
    await page.goto(f"{app.url}/?job=unheard-of")
    await expect(detail.locator(".told")).to_contain_text("No job of this name")


async def test_the_lists_show_with_which_exit_a_killed_job_has_stopped(
    app: App, browser: Browser
) -> None:
    page = await visit(browser, f"{app.url}/?view=ended", view=WIDE)
    job = (await command(app, "request", connid="job", time=60))["job"]
    await command(app, "kill", connid="job")
    past = page.locator('#history [data-connid="job"] .how')
    await expect(past).to_have_text("Killed by ana")
    await command(app, "stopped", connid="job", run=job["run"], exit=143)
    await expect(past).to_have_text("Killed by ana exit 143")
    await expect(ended(page, "job").locator(".how")).to_have_text("Killed by ana exit 143")


async def test_the_lists_show_how_a_lost_job_truly_ended(app: App, browser: Browser) -> None:
    page = await visit(browser, f"{app.url}/?view=ended", view=WIDE)
    asked = {"connid": "job", "time": 60, "lease": 0.2}
    job = (await command(app, "request", **asked))["job"]
    past = page.locator('#history [data-connid="job"] .how')
    await expect(past).to_have_text("Lost")
    lost = {"connid": "job", "run": job["run"]}
    await command(app, "finish", **lost, outcome="failed", result={"exit": 3})
    await expect(past).to_contain_text("Failed")
    await expect(ended(page, "job").locator(".how")).to_contain_text("Failed")
    await page.goto(f"{app.url}/?job=job")
    life = page.locator("#detail .life")
    await expect(life).to_contain_text("Its owner tells how it ended: Failed")
    await expect(life).to_contain_text('{"exit":3}')


async def test_the_page_leads_to_the_api(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await expect(page.locator("#running-empty a")).to_have_attribute("href", "/docs")
    await page.locator("#menu-button").click()
    await page.locator("#menu a").click()
    await expect(page.locator("h1")).to_have_text("The contract")


@pytest.mark.parametrize("width", [390, 900, 1440])
async def test_an_open_job_hides_neither_the_line_nor_itself(
    app: App, browser: Browser, width: int
) -> None:
    await command(app, "request", connid="job", time=60)
    view = {"viewport": {"width": width, "height": 800}}
    page = await visit(browser, f"{app.url}/?job=job", view=view)
    await expect(page.locator("#detail .facts")).to_contain_text("main")
    lines = page.locator(".connection")
    for text, offline in (("Live", False), ("Offline since", True)):
        await page.context.set_offline(offline)
        await expect(lines.first).to_contain_text(text)
        seen = [line for line in await lines.all() if await on_top(line)]
        assert [text in await line.inner_text() for line in seen] == [True]
    await expect(page.locator("#notice .text")).to_be_visible()
    for fact in await page.locator("#detail dd").all():
        assert await on_top(fact)


async def on_top(place: Locator) -> bool:
    """Whether nothing covers the middle of an element."""
    return bool(
        await place.evaluate(
            "place => { const { x, y, width, height } = place.getBoundingClientRect();"
            " return place.contains(document.elementFromPoint(x + width / 2, y + height / 2)) }"
        )
    )


async def test_what_a_job_prints_is_seen_while_it_prints(app: App, browser: Browser) -> None:
    job = (await command(app, "request", connid="job", time=60))["job"]
    printing = {"connid": "job", "run": job["run"]}
    await command(app, "output", **printing, text="<b>before</b>\n")
    page = await visit(browser, f"{app.url}/?job=job")
    output = page.locator("#detail .output")
    await expect(output).to_have_text("<b>before</b>\n")
    for number in range(3):
        await command(app, "output", **printing, text=f"line {number}\n")
    await expect(output).to_have_text("<b>before</b>\nline 0\nline 1\nline 2\n")
    await page.context.set_offline(True)
    await expect(page.locator("#connection")).to_contain_text("Offline")
    await command(app, "output", **printing, text="meanwhile\n")
    await page.context.set_offline(False)
    await expect(output).to_contain_text("meanwhile")
    await page.locator("#detail .close").click()
    await command(app, "request", connid="other", time=60)
    await running(page, "other").locator(".connid").click()
    await expect(page.locator("#detail-title")).to_have_text("other")
    await expect(output).to_be_hidden()


async def test_ended_jobs_are_read_as_far_back_as_they_are_kept(app: App, browser: Browser) -> None:
    await fill(app, 450)
    await asyncio.gather(*(command(app, "kill", connid=f"job-{n:04}") for n in range(450)))
    page = await visit(browser, f"{app.url}/?view=ended")
    await expect(page.locator("#ended-found")).to_contain_text("200 ended jobs that are loaded")
    await page.locator("#older").scroll_into_view_if_needed()
    await page.locator("#older").click()
    await expect(page.locator("#ended-found")).to_contain_text("400 ended jobs that are loaded")
    await page.locator("#older").click()
    await expect(page.locator("#ended-found")).to_have_text("450 ended jobs")
    await expect(page.locator("#older")).to_be_hidden()
    await page.locator("#search").fill("job-0007")
    await expect(page.locator("#history .past")).to_have_count(1)


async def test_rooms_are_opened_shown_together_and_closed(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await command(app, "request", connid="here", time=60)
    await command(app, "request", connid="there", time=60, room="ops")
    await page.locator("#add-room").click()
    await expect(page.locator("#rooms-list")).to_contain_text("ops 1 job")
    await page.locator("#rooms-list button", has_text="ops").click()
    await expect(running(page, "there")).to_be_visible()
    await expect(running(page, "here")).to_have_count(0)
    await page.locator("#rooms .open", has_text="All").click()
    for connid, room in (("here", "main"), ("there", "ops")):
        await expect(running(page, connid).locator(".room-name")).to_have_text(room)
    await page.locator("#room").select_option("ops")
    await start(page, "new", "60")
    await expect(running(page, "new").locator(".room-name")).to_have_text("ops")
    await page.locator('[data-room="main"] .close').click()
    await expect(running(page, "here")).to_have_count(0)
    await expect(page).to_have_url(f"{app.url}/?room=ops")


async def test_everything_is_done_by_keys(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url, view=WIDE)
    keys = page.keyboard
    await keys.press("n")
    await keys.type("typed")
    await keys.press("Tab")
    await keys.type("20m")
    await keys.press("Enter")
    await expect(running(page, "typed")).to_be_visible()
    await fill(app, 40)
    await page.locator("h1").click()
    await keys.press("ArrowDown")
    await expect(page.locator('[data-connid="job-0000"]')).to_be_focused()
    await keys.press("ArrowDown")
    await keys.press("x")
    await keys.press("End")
    await expect(page.locator('[data-connid="typed"]')).to_be_focused()
    await keys.press("Home")
    await keys.press("PageDown")
    await keys.press("k")
    await expect(page.locator("#kill-title")).to_have_text("Kill job-0001?")
    await keys.type("by keys")
    await keys.press("Enter")
    await expect(ended(page, "job-0001")).to_contain_text("by keys")
    focused = page.locator("#running .job:focus")
    name = await focused.get_attribute("data-connid")
    await keys.press("Enter")
    await expect(page.locator("#detail-title")).to_be_focused()
    await expect(page.locator("#detail-title")).to_have_text(str(name))
    await keys.press("Escape")
    await expect(focused).to_have_attribute("data-connid", str(name))
    await keys.press("/")
    await keys.type("typed")
    await expect(page.locator("#running .job")).to_have_count(1)
    await keys.press("Escape")
    await keys.press("Escape")
    await expect(page.locator('[data-connid="job-0000"]')).to_be_visible()  # What is seen counts.
    await keys.press("a")
    await expect(page.locator("#selected-bar")).to_contain_text("40 selected")
    await keys.press("Escape")
    await keys.press("2")
    await expect(page.locator("#history .past")).to_have_count(1)
    await keys.press("?")
    await expect(page.locator("#help")).to_be_visible()


async def test_single_keys_can_be_switched_off(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await page.locator("#menu-button").click()
    await page.locator("#keys").uncheck()
    await page.keyboard.press("Escape")
    await page.locator("h1").click()
    await page.keyboard.press("2")
    await page.keyboard.press("?")
    await expect(page.locator("#help")).to_be_hidden()
    await expect(page.locator("#view-running")).to_be_visible()


async def test_the_focus_stays_when_its_row_goes(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await fill(app, 3)
    await expect(page.locator("#running .job")).to_have_count(3)
    await page.locator('[data-connid="job-0000"] .kill').focus()
    await command(app, "kill", connid="job-0000")
    await expect(page.locator('[data-connid="job-0001"]')).to_be_focused()


async def test_a_picked_job_is_told_of_when_it_ends(app: App, browser: Browser) -> None:
    page = await visit(browser, app.url)
    await page.context.grant_permissions(["notifications"])
    await page.evaluate(
        "() => { window.told = []; window.Notification = class extends EventTarget {"
        " static permission = 'granted'; static requestPermission = async () => 'granted';"
        " constructor(title) { super(); window.told.push(title); } } }"
    )
    await command(app, "request", connid="job", time=60)
    await running(page, "job").locator(".connid").click()
    await page.locator(".tell-me").click()
    await expect(page.locator(".tell-me")).to_have_attribute("aria-pressed", "true")
    await command(app, "kill", connid="job")
    await expect(page.locator(".toast")).to_contain_text("job: Killed by ana")
    assert await page.evaluate("() => window.told") == ["job: Killed by ana"]


async def test_a_token_is_asked_for_kept_for_the_tab_and_given_back(
    serve: Serve, browser: Browser
) -> None:
    app = await serve(auth_secret=SECRET, rate_limit=0)
    await fill(app, 2)
    page = await open_page(await browser.new_context(), app.url)
    await expect(page.locator("#sign-in")).to_contain_text("needs an access token")
    await page.locator("#token").fill("nonsense")
    await page.keyboard.press("Enter")
    await expect(page.locator("#sign-in")).to_contain_text("invalid token")
    await page.locator("#token").fill(token(sub="zoë"))
    await page.keyboard.press("Enter")
    await live(page)
    await expect(page.locator("#who")).to_have_text("zoë")
    await page.reload()
    await live(page)
    await kill(page, "job-0000")
    await expect(ended(page, "job-0000")).to_contain_text("by zoë")
    await page.locator("#menu-button").click()
    await page.locator("#sign-out").click()
    await expect(page.locator("#sign-in")).to_be_visible()
    assert await page.evaluate("() => JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert token(sub="zoë") not in await page.evaluate("() => JSON.stringify({...sessionStorage})")


async def test_whoever_signs_in_next_sees_nothing_of_the_last(
    serve: Serve, browser: Browser
) -> None:
    app = await serve(auth_secret=SECRET, rate_limit=0)
    job = (await command(app, "request", connid="plan", time=600, note="sell"))["job"]
    await command(app, "output", connid="plan", run=job["run"], text="ACME")
    await command(app, "request", connid="over", time=600)
    await command(app, "kill", connid="over", reason="bought")
    told = ("sell", "ACME", "bought")
    context = await browser.new_context(**WIDE)
    page = await open_page(context, f"{app.url}/?job=plan#token={token(rooms=['main'])}")
    for text in told:
        await expect(page.locator("body")).to_contain_text(text)
    await page.locator("#detail .tell-me").click()
    await expect(page.locator("#detail .told")).to_contain_text("when it ends")
    await page.locator("#menu-button").click()
    await page.locator("#sign-out").click()
    await expect(page.locator("#sign-in")).to_be_visible()
    await expect(page.locator("#detail")).to_be_hidden()
    await expect(running(page, "plan")).to_have_count(0)
    for rooms in (["other"], []):
        await page.evaluate("token => { location.hash = `token=${token}` }", token(rooms=rooms))
        await expect(page.locator("#notice")).to_contain_text("The room main is not open to you")
        await live(page)
        await expect(page.locator("#detail .told")).to_contain_text("does not open")
        await expect(ended(page, "over")).to_have_count(0)
        for text in (*told, "has ended"):
            await expect(page.locator("body")).not_to_contain_text(text)
    await page.evaluate("token => { location.hash = `token=${token}` }", token(sub="bo"))
    await live(page)
    for text in told:
        await expect(page.locator("body")).to_contain_text(text)
    await expect(page.locator("#detail .told")).to_be_empty()
    assert page.errors == []  # type: ignore[attr-defined]


async def test_a_link_brings_a_token_and_a_viewer_sees_no_buttons(
    serve: Serve, browser: Browser
) -> None:
    app = await serve(auth_secret=SECRET, rate_limit=0)
    await fill(app, 2, room="ops")
    viewer = token(role="viewer", rooms=["ops"])
    page = await open_page(
        await browser.new_context(), f"{app.url}/?room=ops,secret#token={viewer}"
    )
    await live(page)
    assert "token" not in page.url
    await expect(running(page, "job-0000")).to_be_visible()
    for place in (".kill", "#start", ".select", "#select-all"):
        await expect(page.locator(place).first).to_be_hidden()
    await page.keyboard.press("a")
    await page.keyboard.press("k")
    await expect(page.locator("#kill-dialog")).to_be_hidden()
    await expect(page.locator("#notice")).to_contain_text("The room secret is not open to you")


async def test_a_token_that_runs_out_says_so(serve: Serve, browser: Browser) -> None:
    app = await serve(auth_secret=SECRET)
    short = token(exp=time.time() + 5)
    page = await open_page(await browser.new_context(), f"{app.url}/#token={short}")
    await live(page)
    await expect(page.locator("#sign-in .why")).to_contain_text("expired")
    await page.locator("#token").fill(token())
    await page.keyboard.press("Enter")
    await live(page)
    await expect(page.locator("#sign-in")).to_be_hidden()


async def test_ten_thousand_jobs_are_scrolled_searched_and_killed(
    app: App, browser: Browser
) -> None:
    await fill(app, 10_000)
    page = await visit(browser, app.url, view=WIDE)
    await expect(page.locator("#tab-running .number")).to_have_text("10,000")
    assert await page.locator("#running .job").count() < 60
    await page.locator('[data-connid="job-0000"]').focus()
    await page.keyboard.press("End")
    await expect(page.locator('[data-connid="job-9999"]')).to_be_focused()
    assert await page.locator("#running .job").count() < 60
    await page.locator("#search").fill("job-77")
    await expect(page.locator("#found")).to_have_text("100 of 10,000 jobs")
    await kill(page, "job-7700")
    await expect(ended(page, "job-7700")).to_be_visible()
    await page.keyboard.press("3")
    await expect(page.locator("#lanes figcaption")).to_be_attached()
    assert page.errors == []  # type: ignore[attr-defined]


async def test_charts_and_timeline_are_drawn_in_both_themes(app: App, browser: Browser) -> None:
    await fill(app, 5)
    page = await visit(browser, f"{app.url}/?view=timeline", view=WIDE)
    await expect(page.locator("#running-chart canvas")).to_be_visible()
    await expect(page.locator("#running-chart")).to_have_attribute(
        "aria-label", "5 jobs running now, at most 5."
    )
    for scheme in ("light", "dark"):
        await page.locator("#menu-button").click()
        await page.locator(f"#theme [value={scheme}]").check()
        await page.keyboard.press("Escape")
        for canvas in ("#running-chart canvas", "#lanes canvas"):
            await eventually_drawn(page, canvas)
    # Their bars begin in the middle, which is now, and go on to the end.
    lanes = page.locator("#lanes canvas")
    await expect(lanes).to_have_attribute("aria-label", re.compile("Timeline of 5 jobs"))
    box = await lanes.bounding_box()
    assert box
    await lanes.click(position={"x": box["width"] * 0.75, "y": 40})
    await expect(page.locator("#detail-title")).to_contain_text("job-000")
    assert page.errors == []  # type: ignore[attr-defined]


async def test_a_job_is_given_more_time(app: App, browser: Browser) -> None:
    job = (await command(app, "request", connid="job", time=600))["job"]
    page = await visit(browser, f"{app.url}/?job=job", view=WIDE)
    await page.locator(".more-time-button").click()
    await page.locator(".often button", has_text="30 min").click()
    await expect(page.locator("#detail .told")).to_contain_text("It may run until")
    await expect(running(page, "job").locator(".total")).to_have_text("of 40:00")
    await page.locator("#more-time-other").fill("soon")
    await page.keyboard.press("Enter")
    await expect(page.locator("#detail .told")).to_contain_text("Such as 90, 5m or 1h 30m")
    await page.locator("#more-time-other").fill("20m")
    await page.keyboard.press("Enter")
    await expect(page.locator("#detail .life")).to_contain_text("1h 00m in all")
    await page.reload()
    await expect(page.locator("#detail .life li")).to_have_count(3)
    (now,) = (await command(app, "status"))["jobs"]
    assert (now["run"], now["time"]) == (job["run"], 3600)
    await command(app, "kill", connid="job")
    await expect(page.locator(".more-time-button")).to_be_hidden()
    assert page.errors == []  # type: ignore[attr-defined]


async def eventually_drawn(page: Page, canvas: str) -> None:
    """Wait until a canvas has anything but one colour."""
    pixels = (
        "canvas => new Set(new Uint32Array(canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"
    )
    async with asyncio.timeout(10):
        while await page.locator(canvas).evaluate(pixels) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
async def test_axe_finds_nothing_to_mend(app: App, browser: Browser, size: dict[str, Any]) -> None:
    await fill(app, 5)
    job = (await command(app, "request", connid="job", time=60, note="note"))["job"]
    await command(app, "progress", connid="job", run=job["run"], done=0.5, note="half")
    await command(app, "kill", connid="job-0003", reason="reason")
    page = await visit(browser, app.url, view=size)
    await expect(page.locator("#running .job").first).to_be_visible()
    await check_with_axe(page, "the board")
    await page.locator("#running .job input").first.check()
    await page.locator("#running .connid").first.click()
    await expect(page.locator("#detail .life li").first).to_be_visible()
    await page.locator(".more-time-button").click()
    await check_with_axe(page, "a job")
    await page.locator("#detail .close").click()
    await page.locator("#kill-selected").click()
    await check_with_axe(page, "the question")
    await page.keyboard.press("Escape")
    for key, place in (("2", "#history .past"), ("3", "#lanes canvas")):
        await page.keyboard.press(key)
        await expect(page.locator(place).first).to_be_visible()
        await check_with_axe(page, place)
    await page.keyboard.press("?")
    await check_with_axe(page, "the keys")
    await page.keyboard.press("Escape")
    await page.locator("#menu-button").click()
    await check_with_axe(page, "the settings")
    await page.context.set_offline(True)
    await expect(page.locator("#notice .text")).to_be_visible()
    await check_with_axe(page, "offline")
    await page.context.set_offline(False)
    await page.goto(f"{app.url}/?room=empty")
    await live(page)
    await check_with_axe(page, "an empty room")
