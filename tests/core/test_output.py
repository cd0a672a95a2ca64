"""What jobs print: for those who watch them, live, and the end of it for those who come later."""

import asyncio
import tracemalloc
from typing import Any

import pytest

from server.app import App
from server.config import Config
from server.store.embedded.output_buffer import Outputs
from server.store.embedded.store import EmbeddedStore
from tests.conftest import Connect, Serve
from tests.support.clients import TestClient
from tests.support.servers import Clock, command, eventually
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.each_store

HEARING = ["python", "polling", "node", "websocket"]


async def start(client: TestClient, connid: str = "a", **fields: Any) -> dict[str, Any]:
    answer = await client.command("request", {"connid": connid, "time": 60, **fields})
    assert answer["ok"], answer
    return {"connid": connid, "run": answer["job"]["run"], **fields}


async def heard(client: TestClient, text: str) -> str:
    """All that a client has heard a job print, once it ends with this text."""

    def joined(events: list[tuple[str, dict[str, Any]]]) -> str:
        found = ""
        for name, body in events:
            if name == "output":
                assert body["offset"] == len(found)
                found += body["text"]
        return found if found.endswith(text) else ""

    return await client.until(joined)


@pytest.mark.parametrize("kind", HEARING)
async def test_who_watches_a_job_hears_what_it_prints(
    app: App, connect: Connect, kind: str
) -> None:
    owner = await connect(app.url, kind)
    job = await start(owner)
    watcher = await connect(app.url, kind, rooms=[])
    answer = await watcher.command("join", {"room": "main", "connid": "a"})
    assert answer["output"] == {"offset": 0, "text": ""}
    lines = [f"line {number} ☃ 🐢\n" for number in range(50)]
    for line in lines:
        assert (await owner.command("output", {**job, "text": line}))["result"] == "ok"
    assert await heard(watcher, lines[-1]) == "".join(lines)
    assert len([name for name, _ in watcher.events if name == "output"]) <= len(lines)
    assert not [name for name, _ in owner.events if name == "output"]


async def test_who_comes_later_is_told_the_end_of_it_and_goes_on_from_there(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(rate_limit=0, max_output=100, output_rate=1000)
    owner = await connect(app.url, rooms=[])
    job = await start(owner)
    for number in range(30):
        await owner.command("output", {**job, "text": f"line {number:04}\n"})
    watcher = await connect(app.url, rooms=[])
    known = (await watcher.command("join", {"room": "main", "connid": "a"}))["output"]
    assert known == {"offset": 200, "text": "".join(f"line {n:04}\n" for n in range(20, 30))}
    await owner.command("output", {**job, "text": "more"})
    assert (await watcher.event("output")) == {
        "room": "main", **job, "offset": 300, "text": "more"
    }  # fmt: skip


async def test_a_killed_job_may_print_until_it_has_stopped(app: App, connect: Connect) -> None:
    owner = await connect(app.url, rooms=[])
    job = await start(owner)
    watcher = await connect(app.url, rooms=[])
    await watcher.command("join", {"room": "main", "connid": "a"})
    await owner.command("kill", {"connid": "a"})
    assert (await owner.command("output", {**job, "text": "cleaning up"}))["ok"]
    assert await heard(watcher, "cleaning up") == "cleaning up"
    again = await start(owner)
    await owner.command("output", {**again, "text": "new"})
    answer = await watcher.command("join", {"room": "main", "connid": "a"})
    assert answer["output"] == {"offset": 0, "text": "new"}


@pytest.mark.slow
async def test_what_was_printed_last_is_heard_though_the_job_has_ended(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(output_rate=1)
    owner = await connect(app.url, rooms=[])
    job = await start(owner)
    watcher = await connect(app.url, rooms=[])
    await watcher.command("join", {"room": "main", "connid": "a"})
    await owner.command("output", {**job, "text": "first "})
    assert await heard(watcher, "first ") == "first "
    await owner.command("output", {**job, "text": "last"})
    await owner.command("finish", job)
    await watcher.event("finished")
    later = await connect(app.url, rooms=[])
    known = (await later.command("join", {"room": "main", "connid": "a"}))["output"]
    assert known == {"offset": 0, "text": "first last"}
    assert await heard(watcher, "last") == "first last"


async def test_only_its_owner_shows_what_a_job_prints(serve: Serve, connect: Connect) -> None:
    app = await serve(auth_secret=SECRET)
    ana = await connect(app.url, token=token(), rooms=[])
    eve = await connect(app.url, token=token(sub="eve"), rooms=[])
    job = await start(ana)
    await ana.command("output", {**job, "text": "mine"})
    for other in ({}, {"connid": "b"}, {"room": "other"}):
        answer = await eve.command("output", {**job, **other, "text": "forged"})
        assert answer["error"]["code"] in ("forbidden", "not_running")
    await ana.command("kill", {"connid": "a"})
    answer = await eve.command("output", {**job, "connid": "b", "text": "forged"})
    assert not answer["ok"]
    known = (await ana.command("join", {"room": "main", "connid": "a"}))["output"]
    assert known["text"] == "mine"


async def test_what_an_owner_prints_keeps_its_order(serve: Serve, connect: Connect) -> None:
    app = await serve(auth_secret=SECRET, rate_limit=0)
    ana = await connect(app.url, token=token(), rooms=[])
    job = await start(ana)
    commands = []
    for number in range(50):
        commands.append(ana.command("progress", {**job, "done": number / 50}))
        commands.append(ana.command("output", {**job, "text": f"{number} "}))
    await asyncio.gather(*commands)
    known = (await ana.command("join", {"room": "main", "connid": "a"}))["output"]
    assert known["text"] == "".join(f"{number} " for number in range(50))


async def test_a_run_that_nobody_knows_prints_nothing(app: App, connect: Connect) -> None:
    owner = await connect(app.url, rooms=[])
    job = await start(owner)
    bad = [{"connid": "a", "run": "x"}, {"connid": "b", "run": "x"}]
    bad += [{**job, "connid": "b"}, {**job, "room": "other"}]
    for then in ("output", "kill", "stopped"):
        for other in bad:
            answer = await owner.command("output", {**other, "text": "boo"})
            assert answer["error"]["code"] == "not_running"
        assert (await owner.command(then, {**job, "text": "something"}))["ok"]
    answer = await owner.command("output", {"connid": "a", "run": "x", "text": 7})
    assert answer["error"] == {
        "code": "invalid", "field": "text", "message": "text must be text, not a whole number"
    }  # fmt: skip


async def test_who_stops_watching_hears_no_more(app: App, connect: Connect) -> None:
    owner = await connect(app.url, rooms=[])
    job = await start(owner)
    watcher = await connect(app.url, rooms=[])
    await watcher.command("join", {"room": "main", "connid": "a"})
    await owner.command("output", {**job, "text": "one"})
    assert await heard(watcher, "one") == "one"
    await watcher.command("leave", {"room": "main", "connid": "a"})
    await owner.command("output", {**job, "text": "two"})
    await watcher.command("join", {"room": "main", "connid": "a"})
    await owner.command("output", {**job, "text": "three"})
    event = await watcher.event("output", offset=6)
    assert event["text"] == "three"


@pytest.mark.embedded
async def test_output_is_dropped_in_time(serve: Serve) -> None:
    clock = Clock()
    app = await serve(rate_limit=0, now=clock, output_retention=60)
    job = (await command(app, "request", connid="a", time=10))["job"]
    await command(app, "output", connid="a", run=job["run"], text="x")
    assert (await app.store.printed("main", job["run"])).text == "x"
    clock.now += 61
    board = await app.store.board("main")
    await eventually(lambda: not board.running)
    assert (await app.store.printed("main", job["run"])).text == ""


def add(outputs: Outputs, run: str, text: str, now: float) -> int:
    return outputs.add("main", "a", run, "ana", text, now)


def test_what_is_kept_of_all_jobs_is_bounded() -> None:
    outputs = Outputs(Config(max_output=100_000, memory_budget=8 * 250_000))
    for number in range(10):
        for text in ("x" * 70_000, "y" * 70_000):
            add(outputs, f"run {number}", text, float(number))
    assert len(outputs) == 2
    assert outputs.read("run 9", 0).offset == 40_000
    assert outputs.read("run 9", 0).text == "x" * 30_000 + "y" * 70_000
    assert outputs.read("run 9", 139_999).text == "y"
    assert outputs.read("run 0", 7).offset == 7
    assert add(outputs, "run 9", "z" * 1_000_000, 10.0) == 140_000
    assert outputs.read("run 9", 0).text == "z" * 100_000
    assert outputs.read("run 9", 0).offset == 1_040_000


@pytest.mark.parametrize("text", ["🐢", "x🐢", "é☃", "🐢" * 1000 + "x" * 5000])
def test_what_is_kept_is_bounded_in_bytes_and_whole_in_characters(text: str) -> None:
    outputs = Outputs(Config(max_output=6400))
    whole = ""
    for number in range(5000 // len(text) + 3):
        whole += (more := text + str(number))
        add(outputs, "run", more, 0.0)
    kept = outputs.read("run", 0)
    assert whole[kept.offset :] == kept.text
    assert 6400 - 4 < len(kept.text.encode()) <= 6400
    assert sum(map(len, outputs._tails["run"].texts)) <= 6400
    assert outputs.read("run", len(whole) - 1).text == whole[-1]


def test_many_that_print_little_are_bounded_too() -> None:
    outputs = Outputs(Config(memory_budget=8 * 2**20))
    tracemalloc.start()
    try:
        for number in range(20_000):
            add(outputs, f"run {number}", "x", 0.0)
        assert tracemalloc.get_traced_memory()[0] < 2**20
    finally:
        tracemalloc.stop()
    assert len(outputs) > 500


async def test_an_empty_output_takes_nothing_and_is_answered(app: App, connect: Connect) -> None:
    owner = await connect(app.url, rooms=[])
    job = await start(owner)
    assert (await owner.command("output", {**job, "text": ""}))["result"] == "ok"
    assert not isinstance(app.store, EmbeddedStore) or len(app.store._outputs) == 0
    await owner.command("output", {**job, "text": "some"})
    assert (await owner.command("output", {**job, "text": ""}))["result"] == "ok"
    assert (await app.store.printed("main", job["run"])).text == "some"
    answer = await owner.command("output", {**job, "run": "other", "text": ""})
    assert answer["error"]["code"] == "not_running"


def test_little_by_little_takes_no_more_than_all_at_once() -> None:
    outputs = Outputs(Config(max_output=6400))
    for _ in range(10_000):
        add(outputs, "run", "x", 0.0)
    assert outputs.read("run", 0).text == "x" * 6400
    assert len(outputs._tails["run"].texts) <= 66


def test_nothing_is_kept_where_that_is_asked_for() -> None:
    outputs = Outputs(Config(max_output=0))
    assert add(outputs, "run", "text", 0.0) == 0
    assert outputs.read("run", 0).text == ""
    assert add(outputs, "run", "text", 0.0) == 4
