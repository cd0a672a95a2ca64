"""A page that shows its own work, with `client/job.js` in a real browser."""

from playwright.async_api import Browser

from server.app import App
from tests.support.browsers import open_page
from tests.support.servers import command

PROGRAM = """async () => {
    const { job, Killed } = await import("/client/job.js");
    window.killed = new Promise((tell) => {
        window.working = job("upload", { time: 60 }, async ({ signal, progress }) => {
            progress(0.25, "1/4");
            await new Promise((stop) => signal.addEventListener("abort", stop));
            tell(signal.reason.message);
            await new Promise((clean) => (window.clean = clean));
        }).catch((error) => [error instanceof Killed, error.name, error.by].join());
    });
}"""


async def test_work_of_a_page_is_seen_and_killed(app: App, browser: Browser) -> None:
    page = await open_page(await browser.new_context(), app.url)
    await page.evaluate(PROGRAM)
    row = page.locator("[data-connid=upload]")
    await row.locator(".progress-note", has_text="1/4").wait_for()
    await command(app, "kill", connid="upload", reason="enough")
    assert await page.evaluate("() => window.killed") == "killed by ana: enough"
    (job,) = (await command(app, "history"))["jobs"]
    assert job["stopped_at"] is None
    await page.evaluate("() => window.clean()")
    assert await page.evaluate("() => window.working") == "true,Killed,ana"
    (job,) = (await command(app, "history"))["jobs"]
    assert job["stopped_at"] is not None


async def test_a_loop_of_a_page_that_waits_for_nothing_is_killed(
    app: App, browser: Browser
) -> None:
    page = await open_page(await browser.new_context(), app.url)
    await page.evaluate(
        """async () => {
            const { track } = await import("/client/job.js");
            const endless = function* () { for (let item = 0; ; item++) yield item; };
            window.looping = (async () => {
                for await (const item of track(endless(), "loop", { time: 60 })) window.item = item;
            })().catch((error) => error.name);
        }"""
    )
    await page.locator("[data-connid=loop]").first.wait_for()
    await command(app, "kill", connid="loop")
    assert await page.evaluate("() => window.looping") == "Killed"
