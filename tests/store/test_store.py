"""The embedded store: what its file must not do, and that memory keeps what the file does."""

import asyncio
import itertools
import re
import sqlite3
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec import structs

from server.access.rate_limits import TokenBucket, weight
from server.board import end
from server.config import Config
from server.contract.messages import (
    NULL,
    Job,
    Killed,
    LogEvent,
    Progress,
    Reported,
    Started,
    encode,
)
from server.errors import RateLimited
from server.store import open_store
from server.store.completion import Completion
from server.store.embedded import statements
from server.store.embedded.batch import Batch
from server.store.embedded.memory import Memory
from server.store.embedded.schema import FORMAT
from server.store.embedded.sqlite import Database
from server.store.embedded.statements import CHUNKS
from server.store.embedded.worker import Worker
from server.store.interface import (
    Change,
    EndJob,
    Entry,
    ExtendJob,
    FinishDetails,
    Foreign,
    KillDetails,
    Listener,
    Repeated,
    ReportProgress,
    Stale,
    StartJob,
    StopJob,
    Store,
    StoreError,
)
from tests.conftest import Settings
from tests.support.servers import Clock, command, eventually, seen, serving

pytestmark = pytest.mark.each_store


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "jobs.db"))
    database.open()
    yield database
    database.close()


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Store]:
    store = open_store(config)
    await store.open(Listener())
    running = asyncio.create_task(store.run())
    try:
        yield store
    finally:
        await store.close()
        running.cancel()


async def outcome(completion: Completion[list[Entry]]) -> list[Entry] | str:
    try:
        return await completion
    except Stale as stale:
        return f"{stale.job} is running"
    except Foreign as foreign:
        return f"it belongs to {foreign.owner}"


def a_job(room: str, connid: str, at: float) -> Job:
    run = f"{room}-{at}"
    return Job(
        connid=connid, run=run, room=room, time=60, started_at=at, deadline=at + 60, by="ana"
    )


READ_WHOLE = {statements.RUNNING, statements.UNANSWERED, statements.ALL_ENDED_IDS}
"""What the server reads at its start, to the end; but for the first by an index of these rows."""
OF_INDEXES = {text for name, text in vars(statements).items() if name.endswith("_IDS")}
OF_INDEXES.add(statements.ROOMS_ALONE)
"""What reads no row of a table, so that it is answered when none can be read."""
AROUND_DAMAGE = OF_INDEXES | {statements.JOB, statements.FIRST}


def plan_of(connection: sqlite3.Connection, statement: str) -> list[str]:
    """How SQLite answers a statement, a step in each line."""
    asked = statement.replace("?", "1")
    return [row[-1] for row in connection.execute(f"explain query plan {asked}")]


def scans(plan: list[str]) -> list[str]:
    """The steps that read all rows of a table or of an index."""
    return [step for step in plan if re.match(r"SCAN (log|running|ended|meta)\b", step)]


def all_statements() -> list[str]:
    """Every statement, those for many rows or names in each size."""
    written = [text for name, text in vars(statements).items() if name.isupper()]
    found = [text for text in written if isinstance(text, str) and "{}" not in text]
    for text in written:
        if isinstance(text, str) and "{}" in text:
            columns = text.partition("(")[2].partition(")")[0].count(",") + 1
            into = text.lstrip().startswith("insert")
            make = partial(statements.insertion, text, columns) if into else None
            make = make or partial(statements.naming, text)
            found += [make(size) for size in CHUNKS]
    return found


def test_every_question_is_answered_by_an_index(database: Database) -> None:
    asked = all_statements()
    assert len(asked) > 7 * len(CHUNKS)
    for statement in set(asked) - READ_WHOLE:
        assert not scans(plan_of(database._db, statement)), statement
    assert scans(plan_of(database._db, statements.RUNNING)) == ["SCAN running"]
    (unanswered,) = scans(plan_of(database._db, statements.UNANSWERED))
    assert "USING INDEX ended_unanswered" in unanswered
    for statement in OF_INDEXES:
        for step in plan_of(database._db, statement):
            if re.search(r" (log|ended)\b", step):
                assert "USING COVERING INDEX" in step, statement


async def test_the_store_makes_no_other_statements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "jobs.db", set[str]()
    connect = sqlite3.connect

    class Seen(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            made.add(statement)
            return super().execute(statement, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Seen))
    for _ in "new", "again":
        async with opened(Config(database=str(path), history=5, room_retention=0)) as store:
            await use_all(store)
    plain = {"begin immediate", "commit", "rollback"}
    rest = {each for each in made if not each.startswith("pragma ")} - plain
    assert rest <= set(all_statements())
    assert len(rest) > 15
    asked = {text for text in all_statements() if text.count("?") < 8} - AROUND_DAMAGE
    assert {each.split("(?")[0] for each in asked} <= {each.split("(?")[0] for each in rest}


def steps(work: Callable[[], Any]) -> int:
    """How many lines of Python some work takes."""
    taken = 0

    def trace(*_: Any) -> Any:
        nonlocal taken
        taken += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return taken


def steps_in_memory(size: int) -> list[int]:
    """How much work each question is where a connid has run so often."""
    memory = Memory()
    for at in range(size):
        job, seq = a_job("main", "a", at), 2 * at + 1
        killed = Killed("main", seq + 1, at, "a", job.run, by="ana", via="http")
        started = ("main", seq, job.run, "started", encode(Started("main", seq, at, job)))
        log = [started, ("main", killed.seq, job.run, "killed", encode(killed))]
        ended = ("main", killed.seq, "a", job.run, 1, None, encode(end(job, killed)))
        memory.write(Batch(log=log, ended=[ended]))
    run, last = a_job("main", "a", size // 2).run, 2 * size
    questions: list[Callable[[], Any]] = [
        lambda: memory.history("main", "a", "another", None, 1),
        lambda: memory.history("main", "a", run, None, 1),
        lambda: memory.history("main", "a", None, size, 1),
        lambda: memory.history("main", None, None, size, 1),
        lambda: memory.read_run("main", "a", "another"),
        lambda: memory.read_run("main", "a", run),
        lambda: memory.read("main", last - 1),
        lambda: memory.write(Batch(stopped=[(0, 0, "1.5", "main", size)])),
    ]
    return [steps(question) for question in questions]


def test_a_run_is_looked_up_in_memory_too() -> None:
    few, many = steps_in_memory(100), steps_in_memory(5000)
    assert few == many
    assert min(few) > 0


async def use_all(store: Store) -> None:
    """Have a store do all that it can."""
    for at in range(40):
        job = a_job("main", "a", at)
        await store.submit(StartJob(job))
        await store.submit(ReportProgress(Progress("main", at, "a", job.run, 0.5, None)))
        await store.submit(ExtendJob("main", "a", at, 5, 9999))
        await store.submit(EndJob("main", "a", at, KillDetails(job.run, "ana", "http")))
        await store.submit(StopJob("main", "a", job.run, at, 0))
        await store.read("main", await store.seq("main") - 3)
        await store.read_run("main", "a", job.run)
        await store.ended("main", "a", job.run)
        await store.ended("main", "a", "another")
        await store.ended("main", "b")
        await store.history("main", None, None, 1)
    keyed = structs.replace(job, connid="b", run="keyed", key="k")
    with suppress(Repeated):
        await store.start_once(StartJob(keyed))
        await store.submit(EndJob("main", "b", 40, KillDetails("keyed", "ana", "http")))
    await store.ping()
    await store.sweep()


async def test_an_ended_job_is_the_same_after_a_restart(kept: Settings) -> None:
    clock = Clock(1_700_000_000.123456)
    settings = {**kept, "now": clock}
    async with serving(**settings) as app:
        job = (await command(app, "request", connid="a", time=60, lease=1.1))["job"]
        clock.now += 0.000001
        await command(app, "progress", connid="a", run=job["run"], done=0.1)
        await command(app, "kill", connid="a")
        clock.now += 0.000001
        await command(app, "stopped", connid="a", run=job["run"], exit=-1)
        before = seen(list((await app.store.board("main")).ended))
        history = (await command(app, "history"))["jobs"]
    async with serving(**settings) as app:
        assert seen(list((await app.store.board("main")).ended)) == before == history


async def test_heavy_answers_count_as_many_commands() -> None:
    bucket = TokenBucket(10)
    bucket.take(0)
    bucket.charge(weight(16_384 * 100))
    with pytest.raises(RateLimited) as refused:
        bucket.take(0)
    assert 8 < (refused.value.retry_after or 0) < 9


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_a_store_in_memory_keeps_what_a_file_keeps(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    small = Config(history=30, max_running=0)
    async with (
        opened(replace(small, database=str(tmp_path / "jobs.db"))) as file,
        opened(replace(small, database=":memory:")) as memory,
    ):
        for at in range(400):
            room, connid = random.choice(["main", "ops"]), random.choice("abc")
            job = await file.running(room, connid)
            owner = random.choice([None, "ana", "ana", "eve"])
            change: Change
            if job is None:
                change = StartJob(a_job(room, connid, at))
            elif random.random() < 0.3:
                change = ReportProgress(Progress(room, at, connid, job.run, 0.5, None), owner)
            else:
                how: list[KillDetails | FinishDetails] = [
                    KillDetails(job.run, "ana", "http", "enough"),
                    FinishDetails(job.run, "done", NULL),
                ]
                change = EndJob(room, connid, at, random.choice(how), owner)
            told = [await outcome(store.submit(change)) for store in (file, memory)]
            assert told[0] == told[1]
            if job and random.random() < 0.5:
                stop = StopJob(room, connid, job.run, at + 0.25, random.choice([0, None]), owner)
                stopped = [await outcome(store.submit(stop)) for store in (file, memory)]
                assert stopped[0] == stopped[1]
            if random.random() < 0.1:
                await asyncio.gather(file.sweep(), memory.sweep())
        assert file.rooms_evicted == memory.rooms_evicted > 0
        for room in ("main", "ops", "empty"):
            assert await file.seq(room) == await memory.seq(room)
        for room, after in itertools.product(["main", "ops", "empty"], range(0, 400, 7)):
            assert await file.read(room, after) == await memory.read(room, after)
            for one, before in itertools.product([None, "a"], [None, after]):
                asked = (room, one, before, 20)
                assert await file.history(*asked) == await memory.history(*asked)
        for ended in await memory.history("main", None, None, 500):
            run = ("main", ended.connid, ended.run)
            assert await file.read_run(*run) == await memory.read_run(*run)
            assert await file.ended(*run) == await memory.ended(*run) == ended


async def test_who_asks_on_when_answered_leaves_the_others_their_turn() -> None:
    turns = 0
    turns_when_answered: list[int] = []

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with opened(Config(database=":memory:")) as store:

        def ask() -> None:
            number = len(turns_when_answered)
            completion = store.submit(StartJob(a_job("main", str(number), number)))
            completion.then(go_on)

        def go_on() -> None:
            turns_when_answered.append(turns)
            if len(turns_when_answered) < 100:
                ask()

        others = asyncio.create_task(take_turns())
        ask()
        await eventually(lambda: len(turns_when_answered) == 100)
        assert len(set(turns_when_answered)) == 100
        others.cancel()


async def test_a_task_that_is_cancelled_waits_for_no_change() -> None:
    completion: Completion[list[Entry]] = Completion()
    waiting = [asyncio.create_task(outcome(completion)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[1]
    completion.resolve([])
    waiting[0].cancel()  # It was to be woken already.
    assert await waiting[2] == []
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]


async def test_a_task_goes_on_in_the_turn_in_which_its_work_is_done() -> None:
    completion: Completion[str] = Completion()
    order: list[str] = []

    async def wait(name: str) -> None:
        order.append(f"{name} {await completion}")

    def settle() -> None:
        completion.resolve("done")
        order.append("settled")

    waiting = asyncio.create_task(wait("a"))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(settle)
    await waiting
    assert order == ["a done", "settled"]


async def test_one_that_waits_and_fails_keeps_no_other_from_going_on() -> None:
    completion: Completion[str] = Completion()
    failures: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, failure: failures.append(failure))
    completion.add_done_callback(lambda _: 1 // 0)
    waiting = asyncio.create_task(outcome_of(completion))
    await asyncio.sleep(0)
    loop.call_soon(completion.resolve, "done")
    assert await waiting == "done"
    assert len(failures) == 1


async def test_a_task_goes_on_later_where_another_task_has_done_its_work() -> None:
    completion: Completion[str] = Completion()
    waiting = asyncio.create_task(outcome_of(completion))
    await asyncio.sleep(0)
    completion.reject(ValueError("no"))
    assert not waiting.done()
    assert await waiting == "no"


async def test_all_go_on_who_wait_for_one_change() -> None:
    completion: Completion[str] = Completion()
    order: list[str] = []
    completion.then(lambda: order.append("first"))
    completion.then(lambda: order.append("second"))
    leaving = asyncio.create_task(outcome_of(completion))
    await asyncio.sleep(0)
    leaving.cancel()  # It wakes all who wait.
    await asyncio.sleep(0.01)
    assert order == []
    completion.resolve("done")
    assert order == ["first"]
    await asyncio.sleep(0.01)
    assert order == ["first", "second"]


async def test_who_asks_when_it_is_done_goes_on_as_well() -> None:
    completion: Completion[str] = Completion()
    completion.resolve("done")
    order: list[str] = []
    completion.then(lambda: order.append("late"))
    assert order == []
    await asyncio.sleep(0)
    assert order == ["late"]


async def test_a_completion_releases_who_has_waited_for_it() -> None:
    class Waiter:
        def go_on(self) -> None:
            """It has waited for nothing else."""

    completion: Completion[str] = Completion()
    waiter = Waiter()
    completion.then(waiter.go_on)
    held = weakref.ref(waiter)
    del waiter
    assert held() is not None
    completion.resolve("done")
    assert held() is None


async def test_a_timeout_ends_a_task_that_waits_for_a_change() -> None:
    completion: Completion[str] = Completion()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await completion
    completion.resolve("too late for it")
    assert await completion == "too late for it"


async def outcome_of(completion: Completion[str]) -> str:
    try:
        return await completion
    except ValueError as error:
        return str(error)


async def test_a_worker_does_one_thing_after_the_other_off_the_loop() -> None:
    worker = Worker("test")
    loop_thread, seen = threading.get_ident(), list[tuple[int, int]]()

    def work(number: int) -> int:
        seen.append((number, threading.get_ident()))
        return 1 // number

    completions = [worker.do(work, number) for number in (1, 0, 2)]
    assert await completions[0] == 1
    with pytest.raises(ZeroDivisionError):
        await completions[1]
    assert await completions[2] == 0
    worker.stop()
    assert [number for number, _ in seen] == [1, 0, 2]
    (thread,) = {thread for _, thread in seen}
    assert thread != loop_thread
    assert thread not in [each.ident for each in threading.enumerate()]


async def test_a_store_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    (tmp_path / "jobs.db").write_text("this is no database, and long enough to be seen as such")
    with pytest.raises(StoreError):
        await (store := open_store(Config(database=str(tmp_path / "jobs.db")))).open(Listener())
    assert threading.active_count() == before
    await store.close()
    await store.close()


async def test_a_job_outlives_what_the_log_says_of_its_start(tmp_path: Path) -> None:
    config = Config(database=str(tmp_path / "jobs.db"), history=5)
    first, second = (structs.replace(a_job("main", at, float(at)), note='"née"\n') for at in "12")
    async with opened(config) as store:
        await store.submit(StartJob(first))
        await store.submit(StartJob(second))
        await store.submit(ReportProgress(Progress("main", 3, "2", second.run, 0.5, "half")))
        for number in range(10, 300):
            passing = a_job("main", f"passing {number}", number)
            await store.submit(StartJob(passing))
            how = KillDetails(passing.run, "ana", "http")
            await store.submit(EndJob("main", passing.connid, number, how))
        running = (await store.board("main")).running
        assert await store.read("main", 0) is None
    file = sqlite3.connect(config.database)
    ((oldest,),) = file.execute("select min(first) from log").fetchall()
    assert oldest > 400
    file.close()
    async with opened(config) as store:
        assert (await store.board("main")).running == running
        reported = structs.replace(second, progress=Reported(0.5, "half", 3))
        assert list(running.values()) == [first, reported]


OLDER_SCHEMA = """
create table meta (name text primary key, value text not null) without rowid;
create table log (
  room text, seq integer, connid text not null, run text not null,
  name text not null, body blob not null, primary key (room, seq)
) without rowid;
create table ended (
  room text, seq integer, connid text not null, run text not null,
  unanswered integer not null, job blob not null, primary key (room, seq)
) without rowid;
"""
OLDER_INDEXES = """
create index log_by_run on log (room, run);
create index ended_by_connid on ended (room, connid, seq);
create index ended_unanswered on ended (room, run, seq) where unanswered;
"""
RUNNING_BY_ROOM = """
create table running (
  room text, connid text, job blob not null, primary key (room, connid)
) without rowid;
pragma user_version = 1;
"""
RUNNING_BY_RUN = """
create table running (run text primary key, job blob not null) without rowid;
pragma user_version = 2;
"""
ROWS_AS_THEY_CAME = """
drop table log;
drop table ended;
create table log (
  id integer primary key, room text not null, seq integer not null, run text not null,
  name text not null, body blob not null
);
create table ended (
  id integer primary key, room text not null, seq integer not null, connid text not null,
  run text not null, unanswered integer not null, job blob not null
);
create unique index log_by_room on log (room, seq);
create index log_by_run on log (run);
create unique index ended_by_room on ended (room, seq);
create index ended_by_connid on ended (room, connid, seq);
create index ended_unanswered on ended (room, run, seq) where unanswered;
create table running (run text primary key, job blob not null) without rowid;
pragma user_version = 3;
"""


@pytest.mark.parametrize("indexes", ["", OLDER_INDEXES], ids=["first", "indexed"])
@pytest.mark.parametrize(
    "running", [RUNNING_BY_ROOM, RUNNING_BY_RUN, ROWS_AS_THEY_CAME], ids=["1", "2", "3"]
)
def test_a_file_of_an_older_format_is_taken_over(
    tmp_path: Path, running: str, indexes: str
) -> None:
    path = tmp_path / "jobs.db"
    old = sqlite3.connect(path)
    old.executescript(OLDER_SCHEMA + indexes + running)
    old.execute("insert into meta values ('epoch', 'the epoch')")
    first, second = a_job("main", "a", 1), a_job("main", "b", 2)
    killed = Killed("main", 3, 3.0, "a", first.run, by="ana", via="http")
    events: list[LogEvent] = [Started("main", 1, 1.0, first), Started("main", 2, 2.0, second)]
    columns = [column for _, column, *_ in old.execute("pragma table_info(log)")]
    for event, job in zip([*events, killed], [first, second, first], strict=True):
        row = {
            "id": None,
            "room": "main",
            "seq": event.seq,
            "connid": job.connid,
            "run": job.run,
            "name": event.name,
            "body": encode(event),
        }
        old.execute(f"insert into log values (:{', :'.join(columns)})", row)
    is_running = ("main", "b") if running == RUNNING_BY_ROOM else (second.run,)
    old.execute(
        f"insert into running values ({'?, ' * len(is_running)} ?)", (*is_running, encode(second))
    )
    ended = end(first, killed)
    old.execute(
        "insert into ended (room, seq, connid, run, unanswered, job)"
        " values ('main', 3, 'a', ?, 1, ?)",
        (first.run, encode(ended)),
    )
    old.commit()
    old.close()

    database = Database(str(path))
    for _ in "taken over", "as it is kept now":
        epoch, rooms = database.open()
        assert (tmp_path / "jobs.db-wal").stat().st_size < 2**15
        assert epoch == "the epoch"
        assert rooms["main"].board.running == {"b": second}
        assert rooms["main"].board.seq == 3
        assert list(rooms["main"].unanswered) == [first.run]
        assert [kept.event for kept in database.read("main", 0)] == [*events, killed]
        assert [kept.event.seq for kept in database.read_run("main", "a", first.run)] == [1, 3]
        assert [kept.event.seq for kept in database.read_run("main", "b", second.run)] == [2]
        assert database.history("main", "a", None, None, 10) == [ended]
        database.close()
    database.open()
    database.write(Batch(running={second.run: None}))
    database.close()
    _, rooms = database.open()
    assert rooms["main"].board.running == {}
    database.close()


async def test_a_file_without_an_index_of_runs_is_given_one(tmp_path: Path) -> None:
    config = Config(database=str(tmp_path / "jobs.db"))
    job = a_job("main", "a", 1)
    async with opened(config) as store:
        await store.submit(StartJob(job))
        await store.submit(EndJob("main", "a", 2, KillDetails(job.run, "ana", "http")))
        ended = await store.ended("main", "a", job.run)
    file = sqlite3.connect(config.database)
    file.executescript("drop index ended_by_run; drop index ended_by_key; drop table extended")
    file.executescript("alter table ended drop column key; alter table ended drop column amend")
    file.execute("pragma user_version = 4")
    file.close()
    async with opened(config) as store:
        assert await store.history("main", None, None, 10) == [ended]
        assert [entry.event.seq for entry in await store.read_run("main", "a", job.run)] == [1, 2]
    file = sqlite3.connect(config.database)
    assert file.execute("pragma user_version").fetchone() == (FORMAT,)
    file.close()


async def test_what_was_written_at_once_is_read_one_by_one(tmp_path: Path) -> None:
    config = Config(database=str(tmp_path / "jobs.db"), history=600)
    random = Random(4)
    jobs: list[Job] = []
    logs: dict[str, list[bytes]] = {"main": [], "ops": []}

    async def submit(store: Store, changes: list[Change]) -> None:
        for told in [
            await outcome(completion) for completion in [store.submit(each) for each in changes]
        ]:
            for entry in told if isinstance(told, list) else []:
                logs[entry.event.room].append(entry.body)

    async with opened(config) as store:
        for size in (1, 700, 3, 400):
            changes: list[Change] = []
            for at in range(len(jobs), len(jobs) + size):
                job = a_job(random.choice(list(logs)), str(at), at)
                jobs.append(job)
                kill = EndJob(job.room, job.connid, at, KillDetails(job.run, "ana", "http"))
                progress = Progress(job.room, at, job.connid, job.run, 0.5, None)
                rest: list[list[Change]] = [[], [kill], [ReportProgress(progress)]]
                changes += [StartJob(job), *random.choice(rest)]
            await submit(store, changes)
        stops = [StopJob(job.room, job.connid, job.run, 1, 0) for job in jobs]
        await submit(store, random.sample(stops, len(stops)))
    async with opened(config) as store:
        for room, log in logs.items():
            first = len(log) - config.history
            assert first > 0
            for after in range(first, len(log), 13):
                found = await store.read(room, after)
                assert found is not None
                assert [entry.body for entry in found] == log[after:]
                assert [entry.event.seq for entry in found] == list(range(after + 1, len(log) + 1))
            for job in (job for job in jobs if job.room == room):
                of_run = [body for body in log if f'"run":"{job.run}"'.encode() in body]
                kept = await store.read_run(room, job.connid, job.run)
                assert [entry.body for entry in kept] == of_run[len(of_run) - len(kept) :]
                if kept or await store.ended(room, job.connid, job.run):
                    assert len(kept) >= sum(body in log[first:] for body in of_run)
                else:
                    assert not await store.running(room, job.connid) or of_run[0] not in log[first:]
                assert await store.read_run("empty", job.connid, job.run) == []


def test_a_file_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    later = sqlite3.connect(path)
    later.execute(f"pragma user_version = {FORMAT + 1}")
    later.close()
    with pytest.raises(StoreError, match="another version of Hourglass"):
        Database(str(path)).open()
