"""The command line: its settings, its words, its one-shot commands, and `watch`."""

import argparse
import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hourglass import session
from hourglass.board import Board
from hourglass.cli import seconds
from hourglass.errors import SettingsError
from hourglass.follow import keep_up
from hourglass.output import Backlog, Output, fit
from hourglass.progress.reading import reading_of
from hourglass.session import Backoff
from hourglass.settings import Settings
from hourglass.tree import Process as RunningProcess
from hourglass.tree import processes, processes_by_ps
from hourglass.watch import harmless
from server.app import App
from server.doors import downloads, pages
from tests.conftest import Connect, Serve
from tests.support.cli import HOURGLASS, Cli
from tests.support.load import free_port
from tests.support.network import Proxy, answering
from tests.support.servers import Clock, Process, command, eventually, serving
from tests.support.tls import self_signed
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.slow


async def hg(url: str, *args: str, **environ: str) -> Cli:
    """A run of the command line that has ended."""
    async with Cli(url, *args, **environ) as cli:
        await cli.end()
    return cli


def code(cli: Cli) -> int | None:
    return cli.process.returncode


async def test_a_job_is_started_seen_and_killed(app: App) -> None:
    started = await hg(app.url, "start", "nightly", "--time", "10m", "--note", "weekly")
    assert code(started) == 0 and started.stdout.startswith(b"started: nightly")
    status = await hg(app.url, "status")
    assert code(status) == 0
    head, row = status.stdout.decode().splitlines()
    assert head.split()[:3] == ["NAME", "LEFT", "TIME"]
    assert row.startswith("nightly") and "10:00" in row and "eve" in row and "weekly" in row
    extended = await hg(app.url, "extend", "nightly", "5m")
    assert code(extended) == 0 and extended.stdout.startswith(b"extended: nightly")
    assert code(await hg(app.url, "kill", "nightly", "--reason", "enough")) == 0
    (job,) = (await command(app, "history"))["jobs"]
    assert (job["by"], job["via"], job["reason"], job["time"]) == ("eve", "cli", "enough", 900)
    history = (await hg(app.url, "history")).stdout.decode()
    assert "killed by eve" in history and "enough" in history


async def test_scripts_get_the_servers_answer(app: App) -> None:
    answer = json.loads((await hg(app.url, "start", "a", "--time", "60", "--json")).stdout)
    assert (answer["ok"], answer["result"], answer["job"]["connid"]) == (True, "started", "a")
    refused = await hg(app.url, "start", "a", "--time", "60", "--json")
    assert (code(refused), json.loads(refused.stdout)["error"]["code"]) == (3, "conflict")
    assert refused.said.startswith("hourglass: a is running already")
    page = json.loads((await hg(app.url, "history", "--limit", "1", "--json")).stdout)
    assert page["jobs"] == []


async def test_one_job_can_be_asked_for(app: App) -> None:
    for connid in ("a", "b", "../c d?&#é"):
        await command(app, "request", connid=connid, time=60, room="ops")
    status = await hg(app.url, "status", "../c d?&#é", "--json", "--room", "ops")
    assert [job["connid"] for job in json.loads(status.stdout)["jobs"]] == ["../c d?&#é"]
    await hg(app.url, "kill", "a", HOURGLASS_ROOM="ops")
    history = await hg(app.url, "history", "b", "--json", "--room", "ops")
    assert json.loads(history.stdout)["jobs"] == []


@pytest.mark.parametrize(
    ("args", "expected", "words"),
    [
        (("kill", "nothing"), 3, "not running"),
        (("kill", "a", "--run", "another"), 3, "another run"),
        (("extend", "a", "5m", "--run", "another"), 3, "another run"),
        (("extend", "a", "soon"), 2, "10m, 2h or 1h30m"),
        (("start", "a"), 2, "--time"),
        (("start", "a", "--time", "soon"), 2, "10m, 2h or 1h30m"),
        (("start", "b", "--time", "99999d"), 3, "time must be"),
        (("status", "--url", "ftp://x"), 2, "url must be like"),
        (("run", "--name"), 125, "expected one argument"),
        (("run", "--progress", "(", "--", "ls"), 125, "regular expression"),
        (("run", "--"), 125, "which command"),
        (("watch", "nothing"), 3, "nothing is known of nothing"),
    ],
)
async def test_what_cannot_be_done_is_said(
    app: App, args: tuple[str, ...], expected: int, words: str
) -> None:
    await command(app, "request", connid="a", time=60)
    cli = await hg(app.url, *args)
    assert code(cli) == expected
    assert words in cli.said
    assert "Traceback" not in cli.said


async def test_who_is_not_let_in_is_told_so(serve: Serve) -> None:
    app = await serve(auth_secret=SECRET)
    assert code(await hg(app.url, "status")) == 4
    viewer = {"HOURGLASS_TOKEN": token(role="viewer")}
    assert code(await hg(app.url, "status", **viewer)) == 0
    refused = await hg(app.url, "start", "a", "--time", "5", **viewer)
    assert code(refused) == 4 and "operator" in refused.said
    assert code(await hg(app.url, "watch", "--json", HOURGLASS_TOKEN="nonsense")) == 4


async def test_an_absent_server_has_an_exit_code_of_its_own() -> None:
    cli = await hg(f"http://127.0.0.1:{free_port()}", "status")
    assert code(cli) == 5
    assert "Connection refused" in cli.said


async def test_what_is_no_hourglass_server_is_said() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")

    async with answering(answer) as port:
        cli = await hg(f"http://127.0.0.1:{port}", "status")
    assert code(cli) == 5
    assert "no Hourglass server" in cli.said and "HTTP 404" in cli.said


@pytest.mark.parametrize("name", ["hourglass.py", "hourglass.pyz"])
async def test_the_server_hands_it_out_and_it_needs_no_packages(
    app: App, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(await fetched(app, name))
    args = ["-I", "-S", str(tmp_path / name), "run", "--url", app.url, "--", "echo", "hi"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *args, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"hi\n")
    (job,) = (await command(app, "history"))["jobs"]
    assert (job["connid"], job["outcome"]) == ("echo", "done")


async def fetched(app: App, name: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(f"{app.url}/{name}") as found:
        assert found.status == 200
        return await found.read()


async def test_the_wheel_is_installed_and_gives_the_command(app: App, tmp_path: Path) -> None:
    listed = json.loads(await fetched(app, "downloads.json"))["files"]
    (wheel,) = [file["name"] for file in listed if file["name"].endswith(".whl")]
    home = tmp_path / "venv"
    await done(sys.executable, "-m", "venv", "--without-pip", str(home))
    pip = (sys.executable, "-m", "pip", "--python", str(home / "bin/python"))
    await done(*pip, "install", "--no-index", f"{app.url}/{wheel}")
    said = await done(str(home / "bin/hourglass"), "status", "--json", "--url", app.url)
    assert json.loads(said)["jobs"] == []


async def done(*argv: str) -> bytes:
    """What a command prints that succeeds."""
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


async def test_downloads_are_what_their_hashes_tell(app: App) -> None:
    files = json.loads(await fetched(app, "downloads.json"))["files"]
    assert len(files) == 3
    for file in files:
        body = await fetched(app, file["name"])
        assert (len(body), hashlib.sha256(body).hexdigest()) == (file["size"], file["sha256"])


def test_downloads_are_made_the_same_way_each_time(tmp_path: Path) -> None:
    """Whatever the time, and the dates of the sources, say."""
    made = [downloads.zipapp(), downloads.wheel()]
    for path in (pages.CLIENT / "hourglass").glob("*.py"):
        path.touch()
    assert [downloads.zipapp(), downloads.wheel()] == made


async def test_tls_is_spoken_and_certificates_are_checked(app: App, tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with Proxy(app.url, tls=tls) as network:
        trusted = await hg(network.url, "start", "a", "--time", "9", SSL_CERT_FILE=certificate)
        assert code(trusted) == 0, trusted.said
        refused = await hg(network.url, "status")
        assert code(refused) == 5
        assert "certificate is not valid" in refused.said


async def test_names_that_are_no_text_are_refused_or_shown(app: App) -> None:
    await command(app, "request", connid="é漢", time=60)
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    status = await hg(app.url, "status", **ascii_only)
    assert code(status) == 0 and b"\n??" in status.stdout
    assert code(await hg(app.url, "kill", os.fsdecode(b"\xff"), "--by", os.fsdecode(b"\xfe"))) == 3


def load_settings(flags: dict[str, Any], environ: dict[str, str], home: Path) -> Any:
    return Settings.load(flags, {"HOME": str(home), **environ})


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    (tmp_path / ".config").mkdir()
    file = tmp_path / ".config/hourglass.toml"
    file.write_text('url = "https://file.example/x"\ntoken = "file"\nroom = "file"')
    settings = load_settings({"room": "flag"}, {"HOURGLASS_TOKEN": "environ"}, tmp_path)
    assert settings.url.geturl() == "https://file.example/x"
    assert (settings.read_token(), settings.room) == ("environ", "flag")
    assert "@" in settings.by
    elsewhere = load_settings({}, {"XDG_CONFIG_HOME": str(tmp_path / "none")}, tmp_path)
    assert elsewhere.url.geturl() == "http://127.0.0.1:8000"


@pytest.mark.parametrize("text", ["url = 5", 'colour = "red"', "url ="])
def test_a_bad_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "hourglass.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"hourglass\.toml"):
        load_settings({}, {"XDG_CONFIG_HOME": str(tmp_path)}, tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("1.5", 1.5), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("0.5h", 1800)],
)
def test_durations_are_read_as_people_write_them(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "10 m", "m", "-5", "1m30", "5x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seconds(text)


def test_too_much_output_loses_its_middle_and_says_so() -> None:
    backlog = Backlog(4, 8)
    for text in ("abcdef", "x" * 2000, "12345678"):
        backlog.add(text)
    assert backlog.take() == "abcd\n… 2.0 kB not shown …\n12345678"
    backlog.add("next")
    assert backlog.take() == "next"
    assert backlog.take() == ""


def test_the_last_lines_are_those_that_a_terminal_shows() -> None:
    output = Output(reading_of("none", ""))
    output.channel()("".join(f"line {number}\r\n" for number in range(100)))
    output.channel()("1%\r50%\r\x1b[32m100%\x1b[0m\ta\n\n")
    lines = output.last_lines().split("\n")
    assert lines[-2:] == ["line 99", "100%\ta"]
    assert len(lines) == 20


@pytest.mark.parametrize("character", ["a", "é", "漢", "😀", "\x00"])
def test_output_fits_into_a_message(character: str) -> None:
    text = fit(character * 100_000, 1000)
    assert 900 < len(json.dumps(text, ensure_ascii=False).encode()) <= 1000


def test_what_others_print_does_not_drive_a_terminal() -> None:
    text = "\x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07\x1bc\x9b5n\ta\r\n\x08"
    assert harmless(text) == "\x1b[31mred\x1b[0m5n\ta\r\n"


def test_a_tree_is_found_without_proc() -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True)
    try:
        by_ps = processes_by_ps()
        by_proc = processes()
        expected = RunningProcess(os.getpid(), child.pid, stopped=False)
        assert by_ps[child.pid] == by_proc[child.pid] == expected
    finally:
        os.killpg(child.pid, 9)
        child.wait()


def test_a_line_that_is_lost_soon_does_not_make_us_come_back_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(session, "clock", lambda: now)
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    backoff = Backoff()
    waits = []
    for lasted in (0, 1, 15, 14, 1, 1, 1, 16, 1):
        backoff.up()
        now += lasted
        waits.append(backoff.seconds())
    assert waits == [0.5, 1, 2, 4, 8, 15, 15, 0.5, 1]
    now += 3600
    assert backoff.seconds() == 2, "an hour of being away is not an hour of being connected"


async def test_watch_prints_what_happens_as_lines(app: App) -> None:
    async with Cli(app.url, "watch") as cli:
        await watched(app)
        await command(app, "request", connid="a", time=60)
        assert (await cli.line()).endswith("  a started by ana for 1:00")
        await command(app, "kill", connid="a", reason="enough")
        assert (await cli.line()).endswith("  a killed by ana: enough")
        cli.process.terminate()


@pytest.mark.parametrize("args", [["watch"], ["watch", "--json"], ["watch", "a", "--json"]])
async def test_watch_ends_when_its_reader_has_enough(app: App, args: list[str]) -> None:
    await command(app, "request", connid="a", time=60)
    reader, writer = os.pipe()
    cli = await Cli(app.url, *args).start(stdout=writer)
    os.close(writer)
    await watched(app)
    os.close(reader)
    await command(app, "kill", connid="a")
    assert await cli.end() == 128 + signal.SIGPIPE
    assert cli.said == ""


async def watched(app: App) -> None:
    await eventually(lambda: app.rooms.clients > 0)


async def test_watch_misses_nothing_of_an_outage(app: App) -> None:
    async with Proxy(app.url) as network, Cli(network.url, "watch", "--json") as cli:
        assert json.loads(await cli.line())["event"] == "snapshot"
        network.cut()
        for number in range(3):
            await command(app, "request", connid=number, time=60)
        await command(app, "kill", connid=1)
        network.mend()
        events: list[Any] = []
        while len(events) < 4:
            event = json.loads(await cli.line())
            assert event["event"] != "snapshot"
            if "seq" in event:
                events.append((event["seq"], event["event"]))
    assert events == [(1, "started"), (2, "started"), (3, "started"), (4, "killed")]


async def test_the_output_of_a_job_is_watched_live_until_its_end(app: App) -> None:
    script = "echo first; read; echo second; read; printf last; exit 3"
    args = ["run", "--name", "job", "--", "bash", "-c", script]
    runs = await Cli(app.url, *args).start(stdin=asyncio.subprocess.PIPE)
    assert runs.process.stdin is not None
    assert await runs.line() == "first"
    watches = await Cli(app.url, "watch", "job").start()
    assert await watches.line() == "first"
    runs.process.stdin.write(b"\n")
    assert await watches.line() == "second"
    runs.process.stdin.write(b"\n")
    assert await runs.end() == 3
    assert await watches.end() == 1
    assert watches.stdout == b"first\nsecond\nlast"
    assert watches.said == "hourglass: job: failed (exit 3)\n"
    again = await hg(app.url, "watch", "job")
    assert (code(again), again.stdout) == (1, watches.stdout)


async def test_the_output_of_a_killed_job_is_watched_until_it_has_stopped(app: App) -> None:
    script = "trap 'sleep 0.5; echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    args = ["run", "--name", "job", "--", "bash", "-c", f"exec 2>&-; {script}"]
    async with Cli(app.url, *args) as runs:
        await runs.line()
        watches = await Cli(app.url, "watch", "job").start()
        assert await watches.line() == "ready"
        await command(app, "kill", connid="job", reason="enough")
        assert await runs.end() == 123
    assert await watches.end() == 1
    assert watches.stdout == b"ready\ncleaned\n"
    assert watches.said == "hourglass: job: killed by ana (enough, stopped, exit 0)\n"


async def test_a_run_that_ends_in_an_outage_is_told_from_the_next(app: App) -> None:
    first = (await command(app, "request", connid="job", time=60))["job"]
    report = {"connid": "job", "run": first["run"]}
    await command(app, "output", **report, text="one\n")
    async with Proxy(app.url) as network, Cli(network.url, "watch", "job") as cli:
        assert await cli.line() == "one"
        network.cut()
        await command(app, "finish", **report, result={"exit": 0})
        await command(app, "request", connid="job", time=60)
        network.mend()
        assert await cli.end() == 0
    assert cli.said.endswith("hourglass: job: done (exit 0)\n")


async def test_output_missed_in_an_outage_is_made_up_for(app: App) -> None:
    job = (await command(app, "request", connid="job", time=60))["job"]
    report = {"connid": "job", "run": job["run"]}
    await command(app, "output", **report, text="one\n")
    async with Proxy(app.url) as network, Cli(network.url, "watch", "job") as cli:
        assert await cli.line() == "one"
        network.cut()
        await command(app, "output", **report, text="two\n")
        network.mend()
        assert await cli.line() == "two"
        network.cut()
        for _ in range(3):
            await command(app, "output", **report, text="x" * 29_999 + "\n")
        network.mend()
        assert await cli.line() == ""
        assert re.fullmatch(r"… \d+ kB missed …", await cli.line())
        await command(app, "output", **report, text="three\n")
        await command(app, "finish", **report)
        assert await cli.end() == 0
    assert cli.stdout.endswith(b"x\nthree\n")


def snapshot(seq: int, *running: Any, epoch: str = "e") -> dict[str, Any]:
    jobs = [{"run": run, "connid": run, "started_at": 0, "by": "ana"} for run in running]
    return {"epoch": epoch, "seq": seq, "now": 1000.0, "running": jobs, "ended": []}


def started(seq: int, run: str) -> dict[str, Any]:
    job = {"run": run, "connid": run, "by": "ana", "progress": None}
    return {"seq": seq, "at": 1001.0, "job": job}


def test_a_board_notices_what_it_has_missed() -> None:
    board = Board()
    assert board.apply("snapshot", snapshot(5, "a"))
    assert not board.apply("started", started(7, "c")) and board.behind
    assert board.position == {"epoch": "e", "seq": 5}
    assert board.apply("started", started(6, "b")) and not board.behind
    assert board.apply("started", started(7, "c"))
    assert not board.apply("started", started(7, "c"))
    finished = {"seq": 8, "at": 1002.0, "run": "a", "outcome": "done"}
    assert board.apply("finished", finished)
    assert list(board.running) == ["b", "c"] and list(board.ended) == ["a"]
    assert board.apply("snapshot", snapshot(2, "z", epoch="f"))
    assert (list(board.running), list(board.ended)) == (["z"], [])


async def test_a_board_counts_by_the_server_that_is_there(tmp_path: Path) -> None:
    clock, board = Clock(), Board()
    settings = {"database": str(tmp_path / "jobs.db"), "now": clock}
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(serving(**settings))
        told = Settings.load({"url": app.url}, {})
        following = keep_up(told, board, lambda *_: None, lambda _: None)
        keeping = asyncio.create_task(following)
        stack.callback(keeping.cancel)
        await eventually(lambda: abs(board.now() - clock()) < 60)
        port = app.port
        await app.stop()
        clock.set_by = 3600  # Nothing was missed, so no snapshot comes.
        await stack.enter_async_context(serving(**settings, port=port))
        await eventually(lambda: abs(board.now() - clock()) < 60)


async def test_watch_says_that_the_server_has_lost_its_store(app: App) -> None:
    async with Cli(app.url, "watch") as cli:
        await watched(app)
        for available in (False, True):
            app.rooms.reachable(available)
        await command(app, "request", connid="a", time=60)
        await cli.line()
        cli.process.terminate()
    assert cli.said == "hourglass: the server has lost its store; trying again\n"


class Terminal:
    """A terminal of its own (tmux) with a command in it."""

    def __init__(self, socket: Path, width: int = 100, height: int = 20) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null", "-u"]
        self._size = ["-x", str(width), "-y", str(height)]

    def run(self, *args: str) -> str:
        found = subprocess.run([*self._tmux, *args], capture_output=True, text=True, check=True)
        return found.stdout

    def start(self, *command: str) -> None:
        # pytest sets these, which would go before the size of the terminal.
        self.run("new-session", "-d", *self._size, "env", "-uCOLUMNS", "-uLINES", *command)

    def screen(self) -> str:
        return self.run("capture-pane", "-p")

    @property
    def alive(self) -> bool:
        """Whether its command has not ended."""
        found = subprocess.run([*self._tmux, "has-session"], capture_output=True, check=False)
        return found.returncode == 0

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    assert shutil.which("tmux"), "tmux is missing: `make test` says how to install it"
    terminal = Terminal(tmp_path / "tmux")
    yield terminal
    terminal.close()


async def test_the_board_is_live_in_a_terminal(
    tmp_path: Path, terminal: Terminal, connect: Connect
) -> None:
    async with Process(tmp_path / "jobs.db") as server:
        client = await connect(server.url, "http", name="bo")
        hostile = "evil\x1b]0;title"
        await client.command("request", {"connid": "nightly", "time": 600, "note": hostile})
        program = [sys.executable, str(HOURGLASS), "watch", "--url", server.url]
        terminal.start(*program, "--by", "eve")

        async def shows(*words: str) -> None:
            try:
                await eventually(lambda: all(word in terminal.screen() for word in words))
            except TimeoutError:
                raise AssertionError(terminal.screen()) from None

        await shows(
            "● live", "Running 1", "nightly", " 9:5", "bo", "evil0;title", "1 watching: eve"
        )
        await client.command("kill", {"connid": "nightly", "reason": "enough"})
        await shows("Nothing is running.", "killed by bo", "enough")
        await server.kill()
        await shows("● cannot reach", "killed by bo")
        await server.start()
        client = await connect(server.url, "http", name="bo")
        await client.command("request", {"connid": "after", "time": 60})
        await shows("● live", "Running 1", "after")
        terminal.run("send-keys", "q")
        await eventually(lambda: not terminal.alive)
