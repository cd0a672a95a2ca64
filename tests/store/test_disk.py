"""A disk that is full, and files that cannot be used: nothing is lost, nothing half done.

The disk of a server is filled by a limit on the size of the files that its process may write,
which counts for its database and not for its sockets.
"""

import asyncio
import os
import random
import resource
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest

from server.app import App
from server.store.embedded import disk
from server.store.embedded.backup import back_up as copy_file
from server.store.embedded.sqlite import Database
from server.store.interface import StoreError
from tests.conftest import Connect
from tests.support.clients import CLIENTS, PATIENCE, HttpClient, Slow, TestClient
from tests.support.forge import fork
from tests.support.load import (
    HttpLine,
    Ledger,
    PlainWatcher,
    check_log,
    fresh_snapshot,
    read_log,
)
from tests.support.servers import Process, eventually, serving
from tests.support.trial import Workers, check_rooms, lasting_server

pytestmark = pytest.mark.slow

FULL = "the store cannot be written"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Process]:
    async with lasting_server(tmp_path / "jobs.db", RETRY_INTERVAL="0.05") as server:
        yield server


def fill_disk(server: Process, size: int = 0) -> None:
    """Let no file grow past `size` bytes; no byte below it can be written anew when it is 0."""
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def free_disk(server: Process) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)


async def poll(check: Callable[[], Any]) -> None:
    """Wait for what a server's process shows outside of its protocol, where nothing tells it."""
    async with asyncio.timeout(PATIENCE):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def start(client: TestClient, connid: str, **fields: Any) -> dict[str, Any]:
    answer = await client.command("request", {"connid": connid, "time": 60, **fields})
    assert answer["ok"], answer
    return answer["job"]


async def all_that_changes(client: TestClient) -> list[tuple[str, dict[str, Any]]]:
    """Jobs to change, and every command that would change one of them or start another."""
    killed = await start(client, "killed")
    await client.command("kill", {"connid": "killed"})
    run = (await start(client, "running"))["run"]
    mine = {"connid": "running", "run": run}
    return [
        ("request", {"connid": "new", "time": 60}),
        ("request", {"connid": "running", "time": 60, "if_running": "replace"}),
        ("kill", {"connid": "running"}),
        ("finish", {**mine, "outcome": "done"}),
        ("progress", {**mine, "done": 0.5}),
        ("stopped", {"connid": "killed", "run": killed["run"], "exit": 0}),
    ]


async def everything(client: TestClient) -> dict[str, Any]:
    """What a client can be told of the room, but for the time."""
    status = await client.command("status")
    history = await client.command("history")
    jobs = [{**job, "remaining": None} for job in status["jobs"]]
    return {"jobs": jobs, "seq": status["seq"], "ended": history["jobs"]}


def logged(client: TestClient) -> list[tuple[str, dict[str, Any]]]:
    return [(name, body) for name, body in client.events if "seq" in body and name != "snapshot"]


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_full_disk_changes_nothing_and_is_told(
    server: Process, connect: Connect, kind: str
) -> None:
    watcher = await connect(server.url, "websocket")
    client = await connect(server.url, kind)
    commands = await all_that_changes(client)
    before = await everything(client)
    await watcher.event("started", seq=before["seq"])
    heard = logged(watcher)
    fill_disk(server)
    for name, payload in commands:
        answer = await client.command(name, payload)
        assert answer["ok"] is False
        assert answer["error"]["code"] == "unavailable", (name, answer)
        assert answer["error"]["message"]
        if isinstance(client, HttpClient):
            assert client.status == 503
        assert await everything(client) == before
    assert (await watcher.command("status"))["seq"] == before["seq"]
    assert logged(watcher) == heard
    assert not [name for name, _ in watcher.events if name == "progress"]


@pytest.mark.parametrize("kind", CLIENTS)
async def test_all_works_again_once_there_is_room(
    server: Process, connect: Connect, kind: str
) -> None:
    client = await connect(server.url, kind)
    commands = await all_that_changes(client)
    before = await everything(client)
    fill_disk(server)
    for name, payload in commands:
        assert not (await client.command(name, payload))["ok"]
    free_disk(server)
    await start(client, "new")
    assert (await client.command("progress", commands[4][1]))["ok"]
    assert (await client.command("stopped", commands[5][1]))["ok"]
    answer = await client.command("finish", commands[3][1])
    assert (answer["ok"], answer["seq"]) == (True, before["seq"] + 3)
    after = await everything(client)
    await server.kill()
    await server.start()
    again = await connect(server.url)
    assert await everything(again) == after


async def test_what_is_wrong_is_refused_as_ever_while_the_disk_is_full(
    server: Process, connect: Connect
) -> None:
    client = await connect(server.url)
    job = await start(client, "a")
    fill_disk(server)
    conflict = await client.command("request", {"connid": "a", "time": 60})
    assert (conflict["error"]["code"], conflict["job"]) == ("conflict", job)
    missing = await client.command("kill", {"connid": "b"})
    assert missing["error"]["code"] == "not_running"
    invalid = await client.command("request", {"connid": "b", "time": -1})
    assert invalid["error"]["code"] == "invalid"


async def test_a_new_client_is_let_in_while_the_disk_is_full(
    server: Process, connect: Connect
) -> None:
    client = await connect(server.url)
    job = await start(client, "a")
    since = {"main": {"epoch": (await client.command("status"))["epoch"], "seq": 0}}
    fill_disk(server)
    other = await connect(server.url, "websocket")
    assert (await other.event("snapshot"))["running"] == [job]
    back = await connect(server.url, "websocket", since=since)
    assert (await back.event("started"))["job"] == job


async def test_a_job_that_runs_out_of_time_on_a_full_disk_ends_later(
    server: Process, connect: Connect
) -> None:
    client = await connect(server.url, "websocket")
    job = await start(client, "brief", time=0.2)
    fill_disk(server)
    await poll(lambda: server.log.count(FULL) >= 3)
    (still,) = (await client.command("status"))["jobs"]
    assert (still["run"], still["remaining"]) == (job["run"], 0)
    free_disk(server)
    ended = await client.event("finished", run=job["run"])
    assert (ended["outcome"], ended["seq"]) == ("elapsed", 2)
    assert ended["at"] >= job["deadline"]
    assert (await client.command("status"))["jobs"] == []


async def test_a_job_that_runs_out_of_time_on_a_full_disk_ends_after_a_restart(
    server: Process, connect: Connect
) -> None:
    client = await connect(server.url, "websocket")
    job = await start(client, "brief", time=0.2)
    fill_disk(server)
    await poll(lambda: FULL in server.log)
    await server.kill()
    await server.start()
    again = await connect(server.url, "websocket")
    (ended,) = await again.until(ended_jobs)
    assert (ended["run"], ended["outcome"], ended["late"]) == (job["run"], "elapsed", True)


def ended_jobs(events: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The ends that a client was told, as events or in its snapshot."""
    return [
        job
        for name, body in events
        for job in (body["ended"] if name == "snapshot" else [body] * (name == "finished"))
    ]


async def test_each_of_many_commands_is_answered_truthfully_when_the_disk_fills(
    server: Process, tmp_path: Path
) -> None:
    seed = str(time.time_ns())
    print(f"seed {seed}")
    chance, ledger = random.Random(seed), Ledger()
    watcher = PlainWatcher()
    await watcher.watch(server.url)
    workers = Workers(ledger, chance)
    await workers.begin(server.url, 24)
    for _ in range(10):
        await workers.until_acknowledged(chance.randrange(10, 50))
        # Sometimes in the middle of a write: the file may grow by some of what is written.
        wal = (tmp_path / "jobs.db-wal").stat().st_size
        fill_disk(server, chance.choice([0, wal, wal + chance.randrange(20_000)]))
        await workers.until_refused(chance.randrange(3, 30))
        free_disk(server)
    await workers.until_acknowledged(10)
    await server.kill()
    await workers.leave()
    await watcher.leave()
    assert len(ledger.acknowledged) > 100
    assert ledger.unavailable > 20
    await server.start()
    await check_after_restart(server, ledger, watcher)


async def check_after_restart(server: Process, ledger: Ledger, before: PlainWatcher) -> None:
    """What was acknowledged is there, what was refused is not, and everyone sees the same."""
    watcher, line = PlainWatcher(before.replays), HttpLine()
    await watcher.watch(server.url)
    await line.open(server.url)
    await watcher.settle(line)
    for room, log in (await check_rooms(line, ledger)).items():
        fresh = await fresh_snapshot(server.url, room)
        await watcher.reach(room, fresh.seq)
        assert watcher.replays[room].state() == fresh.state() == log.state()
    await line.close()
    await watcher.leave()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
async def test_what_could_not_be_synced_does_not_come_back(
    tmp_path: Path, connect: Connect
) -> None:
    server = Process(tmp_path / "jobs.db", LD_PRELOAD=str(compiled(SYNC, tmp_path)))
    server.forks = False
    async with server:
        client = await connect(server.url, "websocket")
        await start(client, "before")
        (tmp_path / "broken").touch()
        answer = await client.command("request", {"connid": "refused", "time": 60})
        assert answer["error"]["code"] == "unavailable"
        (tmp_path / "broken").unlink()
        await server.kill()
        await server.start()
        again = await connect(server.url, "websocket")
        (job,) = (await again.command("status"))["jobs"]
        assert job["connid"] == "before"


SYNC = """
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static int sync_file(long call, int fd) {
  if (access("%s/broken", F_OK) == 0) {
    errno = EIO;
    return -1;
  }
  return syscall(call, fd);
}

int fsync(int fd) { return sync_file(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_file(SYS_fdatasync, fd); }
"""
"""A disk that takes writes, but fails to sync them while there is a file named `broken`."""


def compiled(source: str, directory: Path) -> Path:
    """A library of C code that has been told `directory`."""
    code, library = directory / "code.c", directory / "code.so"
    code.write_text(source.replace("%s", str(directory)))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, code], check=True)
    return library


async def test_the_server_stops_while_the_disk_is_full(server: Process, connect: Connect) -> None:
    client = await connect(server.url)
    job = await start(client, "a")
    await client.close()
    fill_disk(server)
    assert await server.terminate(timeout=5) == 0
    await server.start()
    again = await connect(server.url)
    assert (await everything(again))["jobs"] == [{**job, "remaining": None}]


async def test_a_second_server_on_the_same_file_gives_up(server: Process, connect: Connect) -> None:
    client = await connect(server.url)
    await start(client, "a")
    second = Process(server.database)
    assert await second.fail() == 1
    told_clearly(second, str(server.database), str(server.pid))
    await start(client, "b")
    assert len((await client.command("status"))["jobs"]) == 2


async def test_a_file_can_be_taken_over_once_its_server_is_dead(
    server: Process, connect: Connect
) -> None:
    client = await connect(server.url)
    await start(client, "a")
    await client.close()
    await server.kill()
    async with Process(server.database) as second:
        client = await connect(second.url)
        assert len((await client.command("status"))["jobs"]) == 1
        first = Process(server.database)
        assert await first.fail() == 1
        await client.close()


def same(file: Path, name: Path) -> None:
    name.symlink_to(file)


def hard(file: Path, name: Path) -> None:
    name.hardlink_to(file)


def through_a_directory(file: Path, name: Path) -> None:
    name.parent.symlink_to(file.parent)


@pytest.fixture(params=[None, "/dev/shm"], ids=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on each of two filesystems."""
    with TemporaryDirectory(dir=request.param or tmp_path) as folder:
        yield Path(folder)


def test_where_open_files_cannot_be_locked_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "LOCK_OPEN_FILE", None)
    first, second = (Database(str(tmp_path / "jobs.db")) for _ in range(2))
    first.open()
    with pytest.raises(StoreError, match="in use by another server"):
        second.open()
    first.close()
    second.open()
    second.close()


@pytest.mark.parametrize("link", [same, hard, through_a_directory])
async def test_a_file_has_one_server_whatever_name_it_goes_by(
    folder: Path, connect: Connect, link: Callable[[Path, Path], None]
) -> None:
    path = folder / "a" / "jobs.db"
    path.parent.mkdir()
    async with Process(path) as server:
        client = await connect(server.url)
        await start(client, "a")
        name = folder / ("b" if link is through_a_directory else "") / "jobs.db"
        link(path, name)
        second = Process(name)
        assert await second.fail() == 1
        told_clearly(second, str(name), "in use by another server")
        await start(client, "b")
        await client.close()
        await server.kill()
    if link is hard:
        # By this name the log that goes with it would not be found.
        assert await second.fail() == 1
        assert f"DATABASE={path}" in second.log
        async with Process(path):
            pass
        # It would be looked for again where the server was killed; in the file it is not lost.
    async with Process(path) as server:
        client = await connect(server.url)
        assert len((await client.command("status"))["jobs"]) == 2
        assert await server.terminate() == 0
    async with Process(name) as server:
        client = await connect(server.url)
        assert len((await client.command("status"))["jobs"]) == 2
        await client.close()


async def readiness(server: Process) -> tuple[int, str]:
    """Whether a server says that it is ready, and why not."""
    async with aiohttp.ClientSession(server.url) as session, session.get("/readyz") as response:
        return response.status, (await response.json()).get("why", "")


async def ready_again(server: Process) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await readiness(server))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def reason(server: Process) -> str:
    """Why a server is not ready, once it is not."""
    async with asyncio.timeout(PATIENCE):
        while (found := await readiness(server))[0] == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found[1]


def delete(file: Path) -> None:
    file.unlink()


def replace_by_a_copy(file: Path) -> None:
    copy = file.with_name("copy")
    shutil.copy(file, copy)
    copy.rename(file)


def overwrite(file: Path) -> None:
    with sqlite3.connect(file.with_name("other")) as other:
        other.execute("create table other (a)")
    other.close()
    file.write_bytes(file.with_name("other").read_bytes())


def cut(file: Path) -> None:
    os.truncate(file, 0)


@pytest.mark.parametrize(
    ("suffix", "damage", "why"),
    [
        ("", delete, "the database was deleted"),
        ("", replace_by_a_copy, "the database was replaced"),
        ("", overwrite, "the database was cut short or overwritten"),
        ("", cut, "the database was cut short or overwritten"),
        ("-wal", delete, "the write-ahead log was deleted"),
        ("-wal", replace_by_a_copy, "the write-ahead log was replaced"),
        ("-wal", cut, "the write-ahead log was cut short or overwritten"),
        ("-shm", delete, "the wal-index was deleted"),
        ("-shm", replace_by_a_copy, "the wal-index was replaced"),
    ],
)
async def test_a_file_that_is_taken_away_is_noticed(
    tmp_path: Path,
    connect: Connect,
    suffix: str,
    damage: Callable[[Path], None],
    why: str,
) -> None:
    async with Process(tmp_path / "jobs.db", DATABASE_CHECK="0.05") as server:
        client = await connect(server.url, "websocket")
        for number in range(20):
            await start(client, f"before {number}")
        going = asyncio.create_task(keep_starting(client))
        damage(Path(f"{server.database}{suffix}"))
        assert why in await reason(server)
        await going
        answer = await client.command("request", {"connid": "after", "time": 60})
        assert answer["error"]["code"] == "unavailable"
        assert why in answer["error"]["message"]
        assert len((await client.command("status"))["jobs"]) >= 20
        await poll(lambda: why in server.log)
        names = {job["connid"] for job in (await client.command("status"))["jobs"]}
        await client.close()
        await server.kill()
        if not suffix and damage is replace_by_a_copy:
            # Else the log of the old file would be taken for that of the new one.
            assert os.stat(f"{server.database}-wal").st_size == 0
        if suffix and damage is not cut:
            if damage is replace_by_a_copy:
                for stale in ("-wal", "-shm"):
                    os.unlink(f"{server.database}{stale}")
            await server.start()
            again = await connect(server.url)
            assert {job["connid"] for job in (await again.command("status"))["jobs"]} == names


async def keep_starting(client: TestClient) -> None:
    """Start jobs until one is refused."""
    for number in range(100_000):
        answer = await client.command("request", {"connid": f"{number}", "time": 60})
        if not answer["ok"]:
            return


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
async def test_a_file_that_comes_back_is_written_again(
    tmp_path: Path, connect: Connect, suffix: str
) -> None:
    async with Process(tmp_path / "jobs.db", DATABASE_CHECK="0.05") as server:
        client = await connect(server.url)
        await start(client, "before")
        file, away = f"{server.database}{suffix}", tmp_path / "away"
        os.rename(file, away)
        assert "was deleted" in await reason(server)
        assert not (await client.command("request", {"connid": "a", "time": 60}))["ok"]
        os.rename(away, file)
        await ready_again(server)
        await start(client, "after")
        before = await everything(client)
        await client.close()
        await server.kill()
        await server.start()
        assert await everything(await connect(server.url)) == before


async def test_a_wal_index_that_is_cut_short_is_made_anew(tmp_path: Path, connect: Connect) -> None:
    async with Process(tmp_path / "jobs.db", DATABASE_CHECK="0.01") as server:
        client = await connect(server.url)
        await start(client, "before")
        os.truncate(f"{server.database}-shm", 0)
        await poll(lambda: "is made anew" in server.log)
        await start(client, "after")
        assert (await readiness(server))[0] == 200
        before = await everything(client)
        await client.close()
        await server.kill()
        await server.start()
        assert await everything(await connect(server.url)) == before


async def test_a_wal_index_that_cannot_be_made_anew_does_not_end_the_server(
    tmp_path: Path, connect: Connect
) -> None:
    async with Process(tmp_path / "jobs.db", DATABASE_CHECK="0.01") as server:
        client = await connect(server.url)
        await start(client, "before")
        fill_disk(server)
        os.truncate(f"{server.database}-shm", 0)
        await poll(lambda: "cannot be looked at" in server.log)
        assert "cannot be looked at" in (await readiness(server))[1]
        assert not (await client.command("request", {"connid": "a", "time": 60}))["ok"]
        free_disk(server)
        await ready_again(server)
        await start(client, "after")
        await client.close()


async def test_a_full_disk_is_not_ready_until_there_is_room(server: Process) -> None:
    assert await readiness(server) == (200, "")
    fill_disk(server)
    assert "the store cannot be written" in await reason(server)
    free_disk(server)
    await ready_again(server)


async def test_a_write_that_failed_is_not_ready_at_once(server: Process, connect: Connect) -> None:
    client = await connect(server.url)
    fill_disk(server)
    assert not (await client.command("request", {"connid": "a", "time": 60}))["ok"]
    status, why = await readiness(server)
    assert status == 503
    assert "the store cannot be written" in why


async def start_on_a_full_disk(server: Process) -> None:
    server.forks = False
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        await server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
async def test_a_server_starts_on_a_full_disk_and_shows_what_is_there(
    server: Process, connect: Connect, killed: bool
) -> None:
    client = await connect(server.url)
    commands = await all_that_changes(client)
    before = await everything(client)
    await client.close()
    await (server.kill() if killed else server.terminate())
    await start_on_a_full_disk(server)
    client = await connect(server.url, "websocket")
    assert await everything(client) == before
    assert (await readiness(server))[0] == 503
    for name, payload in commands:
        answer = await client.command(name, payload)
        assert answer["error"]["code"] == "unavailable", (name, answer)
    assert await everything(client) == before
    run = commands[2][1]
    joined = await client.command("join", {"room": "main", **run})
    assert [event["event"] for event in joined["events"]] == ["started"]
    free_disk(server)
    await ready_again(server)
    await start(client, "new")
    after = await everything(client)
    await client.close()
    await server.kill()
    server.forks = True
    await server.start()
    assert await everything(await connect(server.url)) == after


READ_ONLY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static int refuses(const char *path, int flags) {
  return (flags & (O_WRONLY | O_RDWR | O_CREAT)) && strncmp(path, "%s/", strlen("%s/")) == 0
    && access("%s/readonly", F_OK) == 0;
}

#define OPEN(name)                                                                    \\
  int name(const char *path, int flags, ...) {                                        \\
    va_list rest;                                                                     \\
    va_start(rest, flags);                                                            \\
    int mode = va_arg(rest, int);                                                     \\
    va_end(rest);                                                                     \\
    if (refuses(path, flags)) {                                                       \\
      errno = EROFS;                                                                  \\
      return -1;                                                                      \\
    }                                                                                 \\
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);                    \\
    return next(path, flags, mode);                                                   \\
  }

OPEN(open)
OPEN(open64)
"""
"""A disk that can only be read while there is a file named `readonly`."""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
async def test_a_server_starts_on_a_disk_that_can_only_be_read(
    tmp_path: Path, connect: Connect, killed: bool
) -> None:
    server = Process(tmp_path / "jobs.db", LD_PRELOAD=str(compiled(READ_ONLY, tmp_path)))
    server.forks = False
    async with server:
        client = await connect(server.url)
        await all_that_changes(client)
        before = await everything(client)
        await client.close()
        await (server.kill() if killed else server.terminate())
        (tmp_path / "readonly").touch()
        await server.start()
        client = await connect(server.url, "websocket")
        assert await everything(client) == before
        answer = await client.command("request", {"connid": "new", "time": 60})
        assert answer["error"]["code"] == "unavailable"
        assert (await readiness(server))[0] == 503
        (tmp_path / "readonly").unlink()
        await ready_again(server)
        await start(client, "new")
        await client.close()


async def test_a_disk_that_is_full_from_the_start_is_told(tmp_path: Path) -> None:
    server = Process(tmp_path / "jobs.db")
    server.forks = False
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        await server._spawn()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert await server.wait() == 1
    told_clearly(server, str(server.database))


async def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    server = Process(tmp_path / "missing" / "jobs.db")
    assert await server.fail() == 1
    told_clearly(server, str(server.database))


async def test_a_directory_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    server = Process(tmp_path)
    assert await server.fail() == 1
    told_clearly(server, str(tmp_path))


@pytest.mark.parametrize("content", [b"hello", b"no database " * 1000])
async def test_a_file_that_is_no_database_is_told_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "letter.txt"
    file.write_bytes(content)
    server = Process(file)
    assert await server.fail() == 1
    told_clearly(server, str(file))
    assert file.read_bytes() == content


def damage_rows(database: Path, statement: str) -> None:
    with sqlite3.connect(database) as file:
        assert file.execute(statement).rowcount > 0
    file.close()


UNREADABLE_LOGS = [
    "update log set entries = x'c1' where room = 'main'",
    "update log set entries = 'text' where room = 'main' and last = 2",
    "update log set entries = (select max(entries) from log) where room = 'main' and last = 3",
    "update log set first = first - 2 where room = 'main' and last = 3",
    "delete from log where room = 'main' and last = 3",
]


@pytest.mark.parametrize("damage", UNREADABLE_LOGS)
async def test_an_unreadable_log_is_stepped_over_by_a_snapshot(
    tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    database = tmp_path / "jobs.db"
    async with serving(database=str(database), presence_interval=0.05, replay=1) as app:
        client = await connect(app.url, "websocket", rooms=["main", "ops"])
        epoch = (await client.command("status"))["epoch"]
        for number in range(5):
            for room in ("main", "ops"):
                await start(client, f"{number}", room=room)
        await client.close()
        await eventually(lambda: app.rooms.open_rooms == 0)
        damage_rows(database, damage)
        since = {room: {"epoch": epoch, "seq": 1} for room in ("main", "ops")}
        for kind in ("websocket", "python"):
            back = await connect(app.url, kind, rooms=["main", "ops"], since=since)
            assert len((await back.event("snapshot", room="main"))["running"]) == 5
            assert (await back.event("started", room="ops"))["seq"] == 2
            assert (await back.command("status", {"since": since["main"]}))["jobs"]
            joined = await back.command("join", {"room": "main", "connid": "2"})
            assert joined["job"]["connid"] == "2"
            again = await back.command("join", {"room": "main", "since": since["main"]})
            assert again["ok"]
            await back.close()
        assert caplog.text.count("the log of main cannot be read after 1") == 1
        slow = Slow()
        await connect_slow(app, slow, "2")
        await eventually(lambda: slow.dropped)
        after = await connect(app.url)
        await start(after, "goes on")
        await after.close()


async def connect_slow(app: App, slow: Slow, connid: str) -> None:
    """Have a client watch a job that was too slow since the beginning of the room's log."""
    app.rooms.watch(slow, await app.rooms.prepare("main", None), connid, 1)
    assert slow.behind == {"main": 1}


async def test_unreadable_rows_do_not_keep_a_server_from_starting(
    tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "jobs.db"
    async with serving(database=str(database)) as app:
        client = await connect(app.url)
        killed = {}
        for connid in "abcd":
            await start(client, connid)
            killed[connid] = (await client.command("kill", {"connid": connid}))["job"]
            await start(client, f"runs {connid}")
        await client.close()
    for damage in (
        "update ended set job = x'7b' where connid = 'b'",
        "update ended set job = cast('null' as blob) where connid = 'c'",
        "update running set job = x'00' where cast(job as text) like '%runs b%'",
        "update log set entries = x'00' where last = 5",
    ):
        damage_rows(database, damage)
    async with serving(database=str(database)) as app:
        client = await connect(app.url, "websocket")
        snapshot = await client.event("snapshot")
        assert [job["connid"] for job in snapshot["running"]] == ["runs a", "runs c", "runs d"]
        assert [job["connid"] for job in snapshot["ended"]] == ["a", "d"]
        pages = [await client.command("history", {"limit": 1})]
        while pages[-1]["before"] is not None:
            page = {"limit": 1, "before": pages[-1]["before"]}
            pages.append(await client.command("history", page))
        listed = [job["connid"] for page in pages for job in page["jobs"]]
        assert listed == ["d", "a"]
        for connid in "abcd":
            stopped = {"connid": connid, "run": killed[connid]["run"], "exit": 0}
            assert (await client.command("stopped", stopped))["ok"] is (connid in "ad")
        assert len((await client.command("history", {"connid": "a"}))["jobs"]) == 1
        assert (await client.command("history", {"connid": "b"}))["jobs"] == []
        await start(client, "runs b")
        await client.close()
    for said in ("running job", "row 2 of the ended jobs", "row 3 of the ended jobs"):
        assert said in caplog.text


def spoil_pages(database: Path, words: bytes) -> None:
    """Overwrite the pages of the file that these words are in."""
    content = bytearray(database.read_bytes())
    assert words in content
    while (place := content.find(words)) >= 0:
        page = place // 4096 * 4096
        content[page : page + 4096] = b"\xff" * 4096
    database.write_bytes(content)


async def test_a_page_that_is_damaged_is_stepped_over(
    tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "jobs.db"
    async with serving(database=str(database), presence_interval=0.05) as app:
        client = await connect(app.url)
        epoch = (await client.command("status"))["epoch"]
        for number in range(40):
            await start(client, f"job {number}", note="long " * 60)
            await client.command("kill", {"connid": f"job {number}", "reason": f"why {number}."})
        await start(client, "runs", room="ops")
        await client.close()
    spoil_pages(database, b'"reason":"why 10."')
    spoil_pages(database, b'"reason":"why 30."')
    async with serving(database=str(database), presence_interval=0.05) as app:
        since = {room: {"epoch": epoch, "seq": 0} for room in ("main", "ops")}
        client = await connect(app.url, "websocket", rooms=["main", "ops"], since=since)
        await client.event("snapshot", room="main")
        assert (await client.event("started", room="ops"))["seq"] == 1
        listed = (await client.command("history", {"limit": 500}))["jobs"]
        assert 20 < len(listed) < 40
        await start(client, "goes on", room="ops")
        await start(client, "goes on")
        await client.close()
    assert "cannot be read" in caplog.text


async def back_up(database: Path, target: Path) -> tuple[int, str]:
    """Have a file copied by the command; its exit code, and what it said."""
    process = await fork({**os.environ}, "--database", str(database), "backup", str(target))
    async with asyncio.timeout(60):
        said = await process.stdout.read() + await process.stderr.read()
        return await process.wait(), said.decode()


async def test_a_backup_under_load_is_restored(
    server: Process, tmp_path: Path, connect: Connect
) -> None:
    clients = [await connect(server.url, "websocket", rooms=[]) for _ in range(4)]
    acknowledged: list[set[str]] = [set() for _ in clients]
    stop = asyncio.Event()

    async def keep_busy(number: int) -> None:
        while not stop.is_set():
            connid = f"{number}-{len(acknowledged[number])}"
            job = await start(clients[number], connid)
            if number % 2:
                await clients[number].command("finish", {"connid": connid, "run": job["run"]})
            acknowledged[number].add(connid)

    busy = [asyncio.create_task(keep_busy(number)) for number in range(len(clients))]
    await poll(lambda: all(len(done) > 20 for done in acknowledged))
    before = set.union(*acknowledged)
    copy = tmp_path / "copy.db"
    code, said = await back_up(server.database, copy)
    assert code == 0, said
    assert f"{copy}: {copy.stat().st_size} bytes" in said
    during = set.union(*acknowledged)
    stop.set()
    await asyncio.gather(*busy)
    assert len(during) > len(before)
    async with Process(copy) as restored:
        line = HttpLine()
        await line.open(restored.url)
        check_log(*await read_log(line, "main"))
        await line.close()
        client = await connect(restored.url)
        now = await everything(client)
        ended = (await client.command("history", {"limit": 500}))["jobs"]
        kept = {job["connid"] for job in [*now["jobs"], *ended]}
        assert before <= kept <= set.union(*acknowledged)
        await start(client, "goes on")
        await client.close()
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


async def test_a_backup_of_a_server_that_is_dead_has_all(server: Process, connect: Connect) -> None:
    client = await connect(server.url)
    await start(client, "a")
    before = await everything(client)
    await client.close()
    await server.kill()
    copy = server.database.with_name("copy.db")
    assert (await back_up(server.database, copy))[0] == 0
    async with Process(copy) as restored:
        client = await connect(restored.url)
        assert await everything(client) == before
        await client.close()


async def test_a_backup_overwrites_nothing_and_says_what_is_wrong(
    server: Process, tmp_path: Path
) -> None:
    there = tmp_path / "there.db"
    there.write_text("something")
    for database, target, why in [
        (server.database, server.database, "exists"),
        (server.database, tmp_path / "no" / "copy.db", "No such file"),
        (tmp_path / "none.db", tmp_path / "copy.db", "is no file"),
        (there, tmp_path / "copy.db", "not a database"),
    ]:
        with pytest.raises(StoreError, match=why):
            copy_file(str(database), str(target))
    code, said = await back_up(server.database, there)
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith(f"hourglass: {there} ") and "exists" in said
    assert there.read_text() == "something"
    assert not (tmp_path / "copy.db").exists()
    assert not (tmp_path / "none.db").exists()
    code, said = await back_up(Path(":memory:"), tmp_path / "copy.db")
    assert (code, "nothing to back up" in said) == (2, True)


async def test_a_backup_put_in_place_of_the_file_is_noticed(
    tmp_path: Path, connect: Connect
) -> None:
    async with Process(tmp_path / "jobs.db", DATABASE_CHECK="0.05") as server:
        client = await connect(server.url)
        await start(client, "a")
        copy = tmp_path / "copy.db"
        assert (await back_up(server.database, copy))[0] == 0
        server.database.write_bytes(copy.read_bytes())
        assert "overwritten" in await reason(server)
        await client.close()


async def test_the_log_beside_the_file_is_cut_back(tmp_path: Path, connect: Connect) -> None:
    async with Process(tmp_path / "jobs.db", MAX_WAL="50000") as server:
        wal = tmp_path / "jobs.db-wal"
        client = await connect(server.url, "websocket")
        for number in range(40):
            await start(client, f"{number}", note="x" * 500)
        assert wal.stat().st_size > 100_000
        # As one is made now and then: what comes next goes to the beginning of the log.
        with closing(sqlite3.connect(server.database, isolation_level=None)) as file:
            assert file.execute("pragma wal_checkpoint").fetchone()[0] == 0
        await start(client, "after")
        assert wal.stat().st_size <= 50_000
        await client.close()


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = Process(tmp_path / "jobs.db", PORT=str(port))
        assert await server.fail() == 1
    told_clearly(server, str(port))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "abc"),
        ("PORT", "70000"),
        ("HISTORY", "0"),
        ("HISTORY", "1.5"),
        ("MAX_TIME", "nan"),
        ("MAX_TIME", "soon"),
        ("LOG_LEVEL", "LOUD"),
        ("AUTH_SECRET", "short"),
    ],
)
async def test_a_bad_setting_is_named(tmp_path: Path, name: str, value: str) -> None:
    server = Process(tmp_path / "jobs.db", **{name: value})
    assert await server.fail() == 2
    told_clearly(server, name)
    assert not server.database.exists()


def told_clearly(server: Process, *words: str) -> None:
    """A server that gave up said so in one line, for people."""
    (line,) = server.log.splitlines()
    assert line.startswith("hourglass: ")
    for word in words:
        assert word in line
