"""Take the picture of the dashboard that the README shows: `make picture`."""

import asyncio
import sys
import time
from pathlib import Path

from tests.support.browsers import chromium, open_page
from tests.support.clients import PlainClient
from tests.support.servers import serving

JOBS = [
    ("nightly-backup", 600, 350, "ana", "weekly full", (0.4, "tables 12/30")),
    (
        "load test · checkout",
        1800,
        310,
        "chidi",
        "staging only, please ask before you kill it",
        None,
    ),
    ("import orders", 90, 52, "ana", None, None),
    ("reindex search", 240, 20, "bo", "after the schema change", (0.08, "shard 1 of 6")),
]
"""connid, time, seconds since its start, who started it, note, progress"""


class Past:
    """A clock that can be set back, so that jobs have run for a while when the picture is taken."""

    ago = 0.0

    def __call__(self) -> float:
        return time.time() - self.ago


async def main(path: Path) -> None:
    """Write the picture to `path`."""
    clock = Past()
    async with serving(rate_limit=0, now=clock) as app, chromium() as browser:
        clients = {name: PlainClient() for name in ("ana", "bo", "chidi")}
        for name, client in clients.items():
            await client.connect(app.url, name=name, rooms=["main"])
        await prepare(clients, clock)
        context = await browser.new_context(viewport={"width": 1100, "height": 740})
        page = await open_page(context, app.url)
        await page.locator("#name").fill("dana")
        await page.locator("#name").press("Enter")
        await page.locator("#watching", has_text="dana").wait_for()
        await page.locator("h1").click()
        await page.screenshot(path=path)
        for client in clients.values():
            await client.close()


async def prepare(clients: dict[str, PlainClient], clock: Past) -> None:
    """Give the board a past: two ended jobs, and those of `JOBS`."""
    clock.ago = 700
    for connid in ("warm caches", "old report"):
        await clients["bo"].command("request", {"connid": connid, "time": 900})
    clock.ago = 420
    kill = {"connid": "old report", "reason": "wrong month, starting it again"}
    await clients["ana"].command("kill", kill)
    clock.ago = 361
    (warm,) = (await clients["bo"].command("status", {"connid": "warm caches"}))["jobs"]
    finish = {"connid": "warm caches", "run": warm["run"], "result": {"pages": 1840}}
    await clients["bo"].command("finish", finish)
    for connid, seconds, ago, name, note, progress in JOBS:
        clock.ago = ago
        start = {"connid": connid, "time": seconds, "note": note}
        job = (await clients[name].command("request", start))["job"]
        if progress:
            report = {"connid": connid, "run": job["run"], "done": progress[0], "note": progress[1]}
            await clients[name].command("progress", report)
    clock.ago = 0


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
