"""Take the pictures of the dashboard that the documents show: `make picture`."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from tests.support.browsers import chromium, open_page
from tests.support.clients import PlainClient
from tests.support.servers import Clock, serving

RUNNING = [
    ("render trailer 4k", 1500, 1080, "chidi", "final cut", (0.7, "frame 5,040 of 7,200")),
    ("nightly-backup", 900, 640, "ana", "weekly full", (0.66, "tables 20/30")),
    ("import orders", 180, 140, "ana", None, None),
    ("load test · checkout", 1800, 310, "chidi", "staging only, please ask first", None),
    ("reindex search", 420, 260, "bo", "after the schema change", (0.34, "shard 2 of 6")),
    ("train recommender", 7200, 840, "dana", "epoch by epoch", (0.18, "epoch 9 of 50")),
    ("migrate-users", 1200, 420, "bo", None, (0.52, "batch 26/50")),
    ("deploy api → eu-west", 300, 45, "dana", "canary first", (0.2, "1 of 5 hosts")),
    ("export ledger", 600, 95, "ana", "for the auditors", None),
]
"""connid, time, seconds since its start, who started it, note, progress"""
ENDED = [
    ("rotate keys", 300, 850, 790, "bo", "done", {"rotated": 12}),
    ("warm caches", 900, 800, 610, "bo", "done", {"pages": 1840}),
    ("old report", 900, 740, 530, "ana", "wrong month, starting it again", None),
    ("sync mirror", 120, 600, 480, "chidi", "elapsed", None),
    ("compress logs", 240, 460, 330, "dana", "done", {"saved": "4.1 GiB"}),
    ("smoke test", 120, 400, 350, "ana", "failed", {"test": "login"}),
    ("scrape prices", 600, 380, 120, "chidi", "the shop asked us to stop", None),
    ("resize images", 300, 290, 60, "dana", "done", {"images": 512}),
]
"""connid, time, seconds since its start and its end, who started it, how it ended, result"""
WIDE = {"width": 1360, "height": 850}
PHONE = {"width": 390, "height": 800}
PICTURES: list[tuple[str, str, str, dict[str, int]]] = [
    ("dashboard.png", "light", "", WIDE),
    ("dashboard-dark.png", "dark", "", WIDE),
    ("timeline.png", "light", "?view=timeline", WIDE),
    ("timeline-dark.png", "dark", "?view=timeline", WIDE),
    ("phone.png", "light", "", PHONE),
    ("phone-dark.png", "dark", "", PHONE),
]
"""file, colours, address, size"""


class Past(Clock):
    """The date, and all that has passed, as it was `ago`: so jobs have run for a while."""

    ago = 3600.0
    """In seconds, and ever less."""

    def __call__(self) -> float:
        return time.time() - self.ago

    steady = __call__


async def main(folder: Path) -> None:
    """Write the pictures into `folder`."""
    clock = Past()
    async with (
        serving(rate_limit=0, now=clock) as app,
        chromium() as browser,
    ):
        clients = {name: PlainClient() for name in ("ana", "bo", "chidi", "dana")}
        for name, client in clients.items():
            await client.connect(app.url, name=name, rooms=["main"])
        await prepare(clients, clock)
        for file, scheme, address, size in PICTURES:
            options: Any = {"viewport": size, "color_scheme": scheme}
            context = await browser.new_context(**options)
            await context.add_init_script("localStorage.setItem('hourglass.name', 'eve')")
            await take(await open_page(context, f"{app.url}/{address}"), folder / file)
            await context.close()
        for client in clients.values():
            await client.close()


async def take(page: Page, path: Path) -> None:
    """Write the picture of a page that is as it will stay."""
    await page.locator("#connection", has_text="Live").wait_for()
    await page.locator("#watching", has_text="5 watching").wait_for()
    if page.viewport_size == WIDE:
        await page.locator("#running-chart canvas").wait_for()
    await asyncio.sleep(1.5)
    await page.screenshot(path=path)


async def prepare(clients: dict[str, PlainClient], clock: Past) -> None:
    """Give the board a past: what has happened, from the first event to the last."""
    steps: list[tuple[float, str, str, dict[str, Any]]] = []
    for connid, seconds, began, name, note, progress in RUNNING:
        start = {"connid": connid, "time": seconds, "note": note}
        steps.append((began, name, "request", start))
        if progress:
            report = {"connid": connid, "done": progress[0], "note": progress[1]}
            steps.append((5, name, "progress", report))
    for connid, seconds, began, over, name, how, result in ENDED:
        steps.append((began, name, "request", {"connid": connid, "time": seconds}))
        if how in ("done", "failed"):
            end = {"connid": connid, "outcome": how, "result": result}
            steps.append((over, name, "finish", end))
        elif how != "elapsed":
            steps.append((over, "ana", "kill", {"connid": connid, "reason": how}))
    runs: dict[str, str] = {}
    for ago, name, command, fields in sorted(steps, key=lambda step: -step[0]):
        clock.ago = ago
        if command in ("progress", "finish"):
            fields["run"] = runs[fields["connid"]]
        answer = await clients[name].command(command, fields)
        if command == "request":
            runs[fields["connid"]] = answer["job"]["run"]
    clock.ago = 0


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
