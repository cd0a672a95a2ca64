"""What the dashboard takes of a browser, with ten thousand jobs and a thousand events a second."""

import asyncio
import json
import os
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

from playwright.async_api import CDPSession, Page

from bench.report import Table
from bench.servers import DAY, Server, fill, job
from bench.wire import Wire, connect, frame
from tests.support.browsers import chromium, open_page

ROOM = "main"
JOBS = 10_000
RATE = 1000
"""Events a second: as many starts as kills."""
SECONDS = 15
WARM_UP = 3
HOUR = 3600
REPLAYED_RATE = 100
"""Events a second of the hour that is replayed."""
REPLAY = 5000
"""Events a second that it is replayed with."""
BATCH = 0.02
"""Seconds between two batches of commands."""
SIZE = {"width": 1440, "height": 900}

ABOUT = """Headless Chromium without a GPU, {width} by {height} pixels, on the page of a server with
{jobs:,} running jobs in the room, while {rate:,} events a second come, as many starts as kills, for
{seconds} s. The server and the commands use the same cores. A long task is one of more than 50 ms,
as the browser's own PerformanceObserver tells; frames are the intervals between two animation
frames, of which a screen of 60 Hz has one in 16.7 ms; both also hold the time in which other
programs had the core: the load average before was {load:.1f}. "CPU" is what the page's own thread
has used of one core, and "behind" how long after the last event was answered the page showed it."""
MEMORY_ABOUT = """The page's JavaScript heap after a collection, on the same board: at first, and
when it has seen the events of an hour at {rate} a second, {events:,} of them, replayed at
{replay:,} a second."""
PROBE = """() => {
  window.bench = { tasks: [], frames: [] };
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) bench.tasks.push(duration);
  }).observe({ type: "longtask" });
  let last = performance.now();
  const frame = (now) => {
    bench.frames.push(now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""
SCROLL = """(seconds) => new Promise((done) => {
  const scroller = document.querySelector("#view-running .scroller");
  const begun = performance.now();
  const frame = (now) => {
    // Down and up again, ten rows in each frame: faster than anyone can read.
    const way = Math.floor((now - begun) / 16.7) * 600;
    const most = scroller.scrollHeight - scroller.clientHeight;
    scroller.scrollTop = Math.abs((way % (2 * most)) - most);
    if (now - begun < seconds * 1000) requestAnimationFrame(frame);
    else done();
  };
  requestAnimationFrame(frame);
})"""

Use = Callable[[Page], Awaitable[Any]]


class Churn:
    """Starts jobs and kills the oldest, so that as many keep running."""

    def __init__(self, wire: Wire, running: list[str]) -> None:
        self._wire = wire
        self._running = deque(running)
        self._names = count(len(running))
        self._answers = 0
        wire.on_message = self._answered
        self.close = wire.close

    async def run(self, rate: int, events: int) -> None:
        """Cause `events` at `rate` a second, and wait until all are answered."""
        before, begun, sent = self._answers, time.perf_counter(), 0
        while sent < events:
            due = min(events, int((time.perf_counter() - begun + BATCH) * rate))
            pairs = max(0, (due - sent + 1) // 2)
            self._wire.transport.write(b"".join(self._pair() for _ in range(pairs)))
            sent += 2 * pairs
            await asyncio.sleep(BATCH)
        while self._answers - before < sent:  # noqa: ASYNC110
            await asyncio.sleep(BATCH)

    def _pair(self) -> bytes:
        started = f"job-{next(self._names):07}"
        self._running.append(started)
        start = {"route": "request", "connid": started, "time": DAY, "note": "shard", "id": 1}
        kill = {"route": "kill", "connid": self._running.popleft(), "reason": "enough", "id": 1}
        return frame(json.dumps(start).encode()) + frame(json.dumps(kill).encode())

    def _answered(self, payload: bytes) -> None:
        if b'"ok":true' not in payload:
            raise RuntimeError(f"a command was refused: {payload!r}")
        self._answers += 1


async def measure(scratch: Path) -> list[Table]:
    """One page for each way in which it is used, then one that is kept for an hour."""
    path = scratch / "dashboard.db"
    now = time.time()
    await fill(path, (job(index, ROOM, now, now + DAY + index) for index in range(JOBS)))
    load, _, _ = os.getloadavg()
    about = ABOUT.format(jobs=JOBS, rate=RATE, seconds=SECONDS, load=load, **SIZE)
    head = (
        "the page is",
        "long tasks a second",
        "their median, ms",
        "the longest, ms",
        "frame, median, ms",
        "frame, p99, ms",
        "CPU, %",
        "behind, ms",
    )
    table = Table("The dashboard under load", about, head)
    async with Server(path, RATE_LIMIT="0") as server, chromium() as browser:
        churn = Churn(await connect(Wire, server.port), [f"job-{n:07}" for n in range(JOBS)])
        for name, address, use in USES:
            context = await browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
            page = await open_page(context, f"{server.url}/{address}")
            await shown(page)
            table.rows.append((name, *await _under_load(page, churn, use)))
            await context.close()
        memory = await _memory(browser, server, churn)
        churn.close()
        return [table, memory]


async def _under_load(page: Page, churn: Churn, use: Use) -> list[str]:
    await page.evaluate(PROBE)
    loading = asyncio.create_task(churn.run(RATE, RATE * (SECONDS + WARM_UP)))
    await asyncio.sleep(WARM_UP)
    await page.evaluate("() => { bench.tasks.length = 0; bench.frames.length = 0; }")
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    begun, spent = time.perf_counter(), await _cpu(session)
    await use(page)
    share = (await _cpu(session) - spent) / (time.perf_counter() - begun)
    seen = await page.evaluate("() => bench")
    await loading
    answered = time.perf_counter()
    await shown(page)
    behind = time.perf_counter() - answered
    tasks, frames = seen["tasks"], sorted(seen["frames"])
    return [
        f"{len(tasks) / SECONDS:.2f}",
        f"{statistics.median(tasks):.0f}" if tasks else "none",
        f"{max(tasks):.0f}" if tasks else "none",
        f"{statistics.median(frames):.1f}",
        f"{frames[int(len(frames) * 0.99)]:.1f}",
        f"{share * 100:.0f}",
        f"{behind * 1000:.0f}",
    ]


async def _memory(browser: Any, server: Server, churn: Churn) -> Table:
    context = await browser.new_context(viewport=SIZE)
    page = await open_page(context, server.url)
    await shown(page)
    events = HOUR * REPLAYED_RATE
    first = await _heap(page)
    await churn.run(REPLAY, events // 2)
    half = await _heap(page)
    await churn.run(REPLAY, events // 2)
    await shown(page)
    last = await _heap(page)
    about = MEMORY_ABOUT.format(rate=REPLAYED_RATE, events=events, replay=REPLAY)
    table = Table("Memory of the dashboard", about, ("after", "heap, MiB"))
    table.rows += [
        (name, f"{size / 2**20:.1f}")
        for name, size in (("its start", first), ("half an hour", half), ("an hour", last))
    ]
    return table


async def _cpu(session: CDPSession) -> float:
    """CPU seconds of the page's main thread so far."""
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


async def _heap(page: Page) -> int:
    """Bytes of live objects in the page."""
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.enable")
    await session.send("HeapProfiler.collectGarbage")
    usage = await session.send("Runtime.getHeapUsage")
    await session.detach()
    return int(usage["usedSize"])


async def shown(page: Page) -> None:
    """Wait until the page is live and shows as many jobs as are running."""
    await page.wait_for_function(
        "number => document.getElementById('connection').textContent === 'Live'"
        " && document.querySelector('#tab-running .number').textContent === number",
        arg=f"{JOBS:,}",
        polling=20,
        timeout=30_000,
    )


async def rest(_: Page) -> None:
    await asyncio.sleep(SECONDS)


async def scroll(page: Page) -> None:
    await page.evaluate(SCROLL, SECONDS)


async def search(page: Page) -> None:
    """Type and delete a search, ten letters a second."""
    end = time.perf_counter() + SECONDS
    field = page.locator("#search")
    while time.perf_counter() < end:
        await field.press_sequentially("job-00 shard", delay=100)
        await field.fill("")


USES: list[tuple[str, str, Use]] = [
    ("left alone, by time left", "", rest),
    ("left alone, by name", "?sort=name", rest),
    ("scrolled without a pause", "", scroll),
    ("searched, letter by letter", "", search),
    ("a timeline", "?view=timeline", rest),
]
"""How the page is used: what that is called, its address, and what is done."""
