"""`hourglass.job` and `hourglass.track`: what is shown, and what the work notices of it."""

import asyncio
import os
import signal

import pytest

from server.app import App
from tests.support.load import free_port
from tests.support.network import Proxy, answering
from tests.support.programs import Program, ended, shown, stopped
from tests.support.servers import command

pytestmark = pytest.mark.slow


async def test_work_is_shown_with_its_progress_and_its_result(app: App) -> None:
    source = """
    with hourglass.job("import", time="30m", note="weekly full") as job:
        job.progress(0.25, "rows")
        wait()
        job.result = {"rows": 1200}
    """
    async with Program(app.url, source) as program:
        job = (await shown(app, "import"))["import"]
        assert job["time"] == pytest.approx(1800, abs=10)
        assert (job["note"], job["by"], job["lease"]) == ("weekly full", "eve", 30)
        assert job["stoppable"] == "yes"
        await progressed(app, "import", {"done": 0.25, "note": "rows"})
        program.go()
        assert await program.end() == []
    assert (await ended(app, "import"))["outcome"] == "done"
    assert (await ended(app, "import"))["result"] == {"rows": 1200}
    assert (program.code, program.stderr) == (0, "")


async def test_what_work_tells_last_is_its_progress_at_the_end(app: App) -> None:
    source = """
    with hourglass.job("job", time=60) as job:
        wait()
        job.progress(0.5)
        job.progress(1.0, "rows")
    list(hourglass.track(range(3), "loop", time=60))
    """
    async with Program(app.url, source) as program:
        await shown(app, "job")
        program.go()
        assert await program.end() == []
    for name, words in (("job", "rows"), ("loop", "3/3")):
        last = (await ended(app, name))["progress"]
        assert (last["done"], last["note"]) == (1.0, words)


async def progressed(app: App, name: str, progress: dict[str, object]) -> None:
    async with asyncio.timeout(20):
        while True:
            told = (await shown(app, name))[name]["progress"]
            if told is not None and {field: told[field] for field in progress} == progress:
                return
            await asyncio.sleep(0.02)


async def test_an_error_of_the_work_is_its_own_and_is_shown(app: App) -> None:
    source = """
    try:
        with hourglass.job("job", time=60):
            raise ValueError("no such row")
    except ValueError as error:
        say(error)
    """
    async with Program(app.url, source) as program:
        assert await program.end() == ["no such row"]
    job = await ended(app)
    assert (job["outcome"], job["result"]) == ("failed", {"error": "ValueError: no such row"})


async def test_functions_are_jobs_under_their_names_and_know_theirs(app: App) -> None:
    source = """
    import asyncio

    @hourglass.job(time="10m")
    def load(rows):
        hourglass.current().progress(0.5)
        wait()
        return rows

    @hourglass.job(time="10m", room="other")
    async def send():
        await asyncio.sleep(0)
        return hourglass.current() is not None

    say(hourglass.current(), load(3), asyncio.run(send()), hourglass.current())
    """
    async with Program(app.url, source) as program:
        await shown(app, "load")
        program.go()
        assert await program.end() == ["None 3 True None"]
    assert (await ended(app, "load"))["outcome"] == "done"
    assert (await command(app, "history", room="other"))["jobs"][0]["connid"] == "send"


async def test_a_name_that_is_taken_gets_a_number(app: App) -> None:
    source = """
    with hourglass.job("job", time=60), hourglass.job("job", time=60):
        wait()
    """
    await command(app, "request", connid="job-2", time=60)
    async with Program(app.url, source) as program, Program(app.url, source) as other:
        async with asyncio.timeout(20):
            while len(found := await shown(app, "job", "job-2")) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert all(name.startswith("job") for name in found)
        program.go()
        other.go()
        assert await program.end() == await other.end() == []


async def test_jobs_one_after_the_other_keep_their_name(app: App) -> None:
    source = """
    for number in range(20):
        with hourglass.job("job", time=60):
            pass
    """
    async with Program(app.url, source) as program:
        assert await program.end() == []
    async with asyncio.timeout(20):
        while len(done := (await command(app, "history"))["jobs"]) < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert {(job["connid"], job["outcome"]) for job in done} == {("job", "done")}


async def test_more_time_moves_the_limit_of_a_program(app: App) -> None:
    source = """
    with hourglass.job("job", time=1.5):
        wait()
    say("done")
    """
    async with Program(app.url, source) as program:
        job = (await shown(app, "job"))["job"]
        assert (await command(app, "extend", connid="job", time=60))["ok"]
        async with asyncio.timeout(20):
            while app.store.now() < job["started_at"] + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        program.go()
        assert await program.end() == ["done"]
    assert (await ended(app))["outcome"] == "done"


async def test_a_loop_shows_how_far_it_is(app: App) -> None:
    source = """
    for row in hourglass.track(range(4), "job", time=60):
        if row == 2:
            wait()
    """
    async with Program(app.url, source) as program:
        await shown(app, "job")
        await progressed(app, "job", {"done": 0.5, "note": "2/4"})
        program.go()
        assert await program.end() == []
    assert (await ended(app))["outcome"] == "done"


async def test_a_loop_that_is_left_early_has_failed(app: App) -> None:
    source = """
    for row in hourglass.track(iter(range(4)), "job", time=60):
        if row == 2:
            break
    say("after")
    """
    async with Program(app.url, source) as program:
        assert await program.end() == ["after"]
    assert (await ended(app))["result"] == {"error": "Left: after 2"}


BLOCKED = {
    "sleep": "time.sleep(60)",
    "busy": "while True: pass",
    "lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "queue": "import queue; queue.Queue().get()",
    "event": "threading.Event().wait()",
    "command": "import subprocess; subprocess.run(['sleep', '60'])",
    "socket": "import socket; a, b = socket.socketpair(); a.recv(1)",
}


@pytest.mark.parametrize("how", BLOCKED)
async def test_a_kill_wakes_the_main_thread(app: App, how: str) -> None:
    source = f"""
    try:
        with hourglass.job("job", time=60):
            say("ready")
            {BLOCKED[how]}
    except hourglass.Killed as killed:
        say(killed, killed.by, killed.reason)
    say("after")
    time.sleep(0.3)
    """
    async with Program(app.url, source) as program:
        await program.line()
        await shown(app, "job")
        await command(app, "kill", connid="job", reason="enough")
        await stopped(app)
        assert await program.end() == ["killed by ana: enough ana enough", "after"]
    assert (program.code, program.stderr) == (0, "")


async def test_a_kill_ends_a_thread_and_not_what_follows(app: App) -> None:
    source = """
    def work():
        try:
            with hourglass.job("job", time=60):
                say("ready")
                while True:
                    pass
        except hourglass.Killed:
            say("killed")
        time.sleep(0.3)
        say("after")

    in_thread(work)
    """
    async with Program(app.url, source) as program:
        await program.line()
        assert (await shown(app, "job"))["job"]["stoppable"] == "cooperative"
        await command(app, "kill", connid="job")
        assert await program.end() == ["killed", "after"]
        await stopped(app)
    assert program.stderr == ""


async def test_what_blocks_is_woken_by_its_own_cancel(app: App) -> None:
    source = """
    import socket

    def work():
        ours, theirs = socket.socketpair()
        try:
            with hourglass.job("job", time=60) as job:
                job.on_kill(lambda: theirs.shutdown(socket.SHUT_RDWR))
                job.on_kill(lambda: 1 / 0)
                say("ready")
                ours.recv(1)
        except hourglass.Killed:
            say("killed")

    in_thread(work)
    """
    async with Program(app.url, source) as program:
        await program.line()
        await shown(app, "job")
        await command(app, "kill", connid="job")
        assert await program.end() == ["killed"]
        await stopped(app)
    assert program.stderr == ""


async def test_a_kill_cancels_a_task_and_the_loop_goes_on(app: App) -> None:
    source = """
    import asyncio

    async def work():
        try:
            async with hourglass.job("job", time=60):
                say("ready")
                try:
                    await asyncio.sleep(60)
                finally:
                    await asyncio.sleep(0.2)
                    say("cleaned up")
        except hourglass.Killed:
            say("killed", asyncio.current_task().cancelling() if sys.version_info > (3, 11) else 0)
            await asyncio.sleep(0.2)
            say("after")

    async def main():
        other = asyncio.create_task(asyncio.sleep(0.1, "other"))
        await asyncio.create_task(work())
        say(await other)

    asyncio.run(main())
    """
    async with Program(app.url, source) as program:
        await program.line()
        await shown(app, "job")
        await command(app, "kill", connid="job")
        assert await program.end() == ["cleaned up", "killed 0", "after", "other"]
        await stopped(app)
    assert program.stderr == ""


async def test_stopped_waits_for_threads_that_a_task_has_left_behind(app: App) -> None:
    source = """
    import asyncio

    async def work():
        async with hourglass.job("job", time=60):
            say("ready")
            await asyncio.to_thread(wait)

    async def main():
        try:
            await asyncio.create_task(work())
        except hourglass.Killed:
            say("killed")
        await asyncio.sleep(60)

    asyncio.run(main())
    """
    async with Program(app.url, source) as program:
        await program.line()
        await shown(app, "job")
        await command(app, "kill", connid="job")
        assert await program.line() == "killed"
        await asyncio.sleep(0.5)
        assert (await ended(app, "job", state="killed"))["stopped_at"] is None
        program.go()
        await stopped(app)


async def test_a_shield_holds_a_kill_back(app: App) -> None:
    source = """
    with hourglass.job("job", time=60) as job:
        with job.shield():
            say("ready")
            while not job.killed:
                time.sleep(0.01)
            time.sleep(0.2)
            say("committed")
        say("never")
    """
    async with Program(app.url, source) as program:
        await program.line()
        await shown(app, "job")
        await command(app, "kill", connid="job", reason="enough")
        assert await program.end() == ["committed"]
        await stopped(app)
    assert "Killed: killed by ana: enough" in program.stderr


async def test_a_kill_that_work_catches_comes_again(app: App) -> None:
    source = """
    caught = 0
    try:
        with hourglass.job("job", time=60):
            say("ready")
            while True:
                try:
                    time.sleep(60)
                except hourglass.Killed:
                    caught += 1
                    if caught == 3:
                        raise
    except hourglass.Killed:
        say(caught)
    """
    async with Program(app.url, source) as program:
        await program.line()
        await shown(app, "job")
        await command(app, "kill", connid="job")
        assert await program.end() == ["3"]


async def test_clean_up_is_not_interrupted_again(app: App) -> None:
    source = """
    try:
        with hourglass.job("job", time=60):
            say("ready")
            try:
                time.sleep(60)
            finally:
                time.sleep(0.5)
                say("cleaned up")
    except hourglass.Killed:
        pass
    """
    async with Program(app.url, source) as program:
        await program.line()
        await shown(app, "job")
        await command(app, "kill", connid="job")
        assert await program.end() == ["cleaned up"]


async def test_a_kill_ends_the_processes_that_the_job_has_started(app: App) -> None:
    source = """
    import subprocess

    before = subprocess.Popen(["sleep", "60"])
    time.sleep(0.05)
    try:
        with hourglass.job("job", time=60):
            tree = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 61 & wait"])
            say("ready")
            time.sleep(60)
    except hourglass.Killed:
        say(tree.wait(), before.poll())
        before.kill()
    """
    async with Program(app.url, source) as program:
        await program.line()
        await shown(app, "job")
        await command(app, "kill", connid="job")
        assert await program.end() == ["-15 None"]
        await stopped(app)


@pytest.mark.parametrize("server", ["away", "hangs"])
async def test_work_runs_without_a_server_and_within_its_time(server: str) -> None:
    source = """
    with hourglass.job("short", time=60) as job:
        job.progress(0.5)
        say("worked")
    try:
        with hourglass.job("job", time=0.5):
            time.sleep(60)
    except hourglass.TimedOut:
        say("its time is over")
    """

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with answering(hang) as hanging:
        port = hanging if server == "hangs" else free_port()
        async with Program(f"http://127.0.0.1:{port}", source) as program:
            assert await program.end() == ["worked", "its time is over"]
    assert (program.code, program.stderr) == (0, "")


async def test_settings_that_cannot_be_used_keep_no_work_from_running() -> None:
    source = """
    with hourglass.job("job", time=60):
        say("worked")
    """
    async with Program("nonsense", source) as program:
        assert await program.end() == ["worked"]
    assert program.stderr == ""


async def test_a_kill_during_an_outage_is_obeyed(app: App) -> None:
    source = """
    try:
        with hourglass.job("job", time=60):
            say("ready")
            time.sleep(60)
    except hourglass.Killed:
        say("killed")
    """
    async with Proxy(app.url) as proxy, Program(proxy.url, source) as program:
        await program.line()
        await shown(app, "job")
        proxy.cut()
        await command(app, "kill", connid="job")
        await command(app, "request", connid="job", time=1)  # Another one of its name.
        await command(app, "kill", connid="job")
        proxy.mend()
        assert await program.end() == ["killed"]
        await eventually_stopped_first(app)


async def eventually_stopped_first(app: App) -> None:
    async with asyncio.timeout(20):
        while True:
            if (await command(app, "history"))["jobs"][1].get("stopped_at") is not None:
                return
            await asyncio.sleep(0.02)


async def test_work_that_ends_after_a_kill_that_it_never_heard_of_is_stopped(app: App) -> None:
    source = """
    with hourglass.job("job", time=60):
        wait()
    say("done")
    wait()
    """
    async with Proxy(app.url) as proxy, Program(proxy.url, source) as program:
        await shown(app, "job")
        proxy.cut()
        await command(app, "kill", connid="job")
        program.go()
        assert await program.line() == "done"
        proxy.mend()
        await stopped(app)


async def test_work_that_was_taken_for_lost_begins_a_new_run(app: App) -> None:
    source = """
    with hourglass.job("job", time=60, lease=1):
        wait()
    """
    async with Proxy(app.url) as proxy, Program(proxy.url, source) as program:
        first = (await shown(app, "job"))["job"]
        proxy.cut()
        await ended(app, outcome="lost")
        proxy.mend()
        second = (await shown(app, "job"))["job"]
        assert second["run"] != first["run"]
        assert second["time"] < 60
        program.go()
        assert await program.end() == []
    await ended(app, outcome="done")


async def test_a_lease_holds_while_the_interpreter_is_busy(app: App) -> None:
    source = """
    import ctypes

    with hourglass.job("job", time=60, lease=1):
        say("ready")
        ctypes.PyDLL(None).sleep(4)  # Which keeps every other thread from running.
        say("after")
        wait()
    """
    async with Program(app.url, source) as program:
        await program.line()
        run = (await shown(app, "job"))["job"]["run"]
        assert await program.line() == "after"
        assert (await shown(app, "job"))["job"]["run"] == run
        assert (await command(app, "history"))["jobs"] == []
        program.go()
        await program.end()


async def test_a_program_that_is_killed_has_failed_at_once(app: App) -> None:
    source = """
    with hourglass.job("job", time=600, lease=300):
        time.sleep(600)
    """
    async with Program(app.url, source) as program:
        await shown(app, "job")
        program.signal(signal.SIGKILL)
        job = await ended(app)
        assert job["outcome"] == "failed"
        assert job["result"] == {"error": "the process ended without a word"}


async def test_a_lease_keeper_that_dies_is_followed_by_another(app: App) -> None:
    source = """
    from hourglass.tree import processes

    def keepers():
        return [pid for pid, one in processes().items() if one.parent == os.getpid()]

    with hourglass.job("job", time=60) as job:
        (first,) = keepers()
        say(first)
        while keepers() in ([], [first]):
            time.sleep(0.01)
        job.progress(0.5)
        wait()
    """
    async with Program(app.url, source) as program:
        run = (await shown(app, "job"))["job"]["run"]
        keeper = int(await program.line())
        os.kill(keeper, signal.SIGKILL)
        await progressed(app, "job", {"done": 0.5, "note": None})
        assert (await shown(app, "job"))["job"]["run"] == run
        program.go()
        await program.end()
    await ended(app, outcome="done")


FORKS = {
    "exit": """
        if (child := os.fork()) == 0:
            job.progress(0.9, "of the child")
            os._exit(hourglass.current() is not None)
        say(os.waitpid(child, 0)[1])
    """,
    "through": """
        if (child := os.fork()) == 0:
            sys.exit(0)
        say(os.waitpid(child, 0)[1])
    """,
    "error": """
        if (child := os.fork()) == 0:
            sys.stderr = open(os.devnull, "w")
            raise ValueError
        say(os.waitpid(child, 0)[1] - 256)
    """,
    "process": """
        import multiprocessing
        def work():
            job.progress(0.9, "of the child")
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
        say(process.exitcode)
    """,
    "pool": """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            say(sum(pool.map(len, ["", ""])))
    """,
}


@pytest.mark.parametrize("how", FORKS)
async def test_a_forked_child_reports_nothing_of_its_parents_job(app: App, how: str) -> None:
    source = f"""
    with hourglass.job("job", time=60) as job:
        {FORKS[how].strip()}
        wait()
    """
    # From 3.12 on Python warns of every fork beside a thread, whosever that is.
    quiet = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
    async with Program(app.url, source, **quiet) as program:
        assert await program.line() == "0", await program.end()
        assert (await shown(app, "job"))["job"]["progress"] is None
        assert (await command(app, "history"))["jobs"] == []
        program.go()
        assert await program.end() == []
    assert (await ended(app))["outcome"] == "done"
    assert program.stderr == ""


async def test_a_forked_child_has_jobs_of_its_own(app: App) -> None:
    source = """
    with hourglass.job("job", time=60) as job:
        child = os.fork()
        if child == 0:
            try:
                with hourglass.job("child", time=60):
                    say("ready")
                    time.sleep(60)
            except hourglass.Killed:
                os._exit(7)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        wait()
    """
    async with Program(app.url, source) as program:
        assert await program.line() == "ready"
        await shown(app, "job", "child")
        await command(app, "kill", connid="child")
        assert await program.line() == "7"
        await stopped(app, "child")
        await shown(app, "job")
        program.go()
        await program.end()
    await ended(app, outcome="done")


async def test_importing_it_does_nothing() -> None:
    source = """
    import signal
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    assert threading.active_count() == 1
    assert not {"asyncio", "subprocess", "ctypes", "socket", "json"} & set(sys.modules)
    assert not any(getattr(found, "__module__", "").startswith("hourglass") for found in handlers)
    say(sorted(hourglass.__all__))
    """
    async with Program("nowhere", source) as program:
        names = "['Job', 'Killed', 'TimedOut', 'current', 'job', 'track']"
        assert await program.end() == [names], program.stderr
