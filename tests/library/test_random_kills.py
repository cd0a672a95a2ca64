"""Kills at random instants: none is lost, and none hits the code that follows."""

import asyncio
import random

import pytest

from server.app import App
from tests.support.programs import Program, shown
from tests.support.servers import command
from tests.support.soak import SOAK

pytestmark = pytest.mark.slow

ROUNDS = 350 if SOAK else 8
SOURCE = """
import random, sqlite3


class Dropped:
    def __del__(self):
        for _ in range(20):
            pass

def full_of_del():
    for _ in range(100):
        Dropped()

def full_of_sleeps():
    time.sleep(random.random() / 200)

database = sqlite3.connect(":memory:", check_same_thread=False)

def full_of_queries():
    database.execute("with recursive n(i) as (select 1 union all select i + 1 from n where i < 999)"
                     " select sum(i) from n").fetchone()

sys.unraisablehook = lambda _: None  # A kill in a __del__ is dropped there, and comes again.

def rounds(step):
    for number in range(int(sys.argv[1])):
        try:
            with hourglass.job("job", time=60):
                say("ready")
                while True:
                    step()
        except hourglass.Killed:
            pass
        else:
            say("lost")
        until = time.monotonic() + 0.06
        while time.monotonic() < until:
            step()
    say("end")

def guarded(step):
    try:
        rounds(step)
    except BaseException as error:
        say("hit", repr(error))
"""


@pytest.mark.parametrize("step", ["full_of_del", "full_of_sleeps", "full_of_queries"])
@pytest.mark.parametrize("where", ["main", "thread"])
async def test_no_kill_is_lost_and_none_comes_late(app: App, where: str, step: str) -> None:
    start = f"guarded({step})"
    if where == "thread":
        start = f"thread = threading.Thread(target=guarded, args=({step},))\n"
        start += "thread.start()\nthread.join()"
    chance = random.Random(1)
    async with Program(app.url, SOURCE + start, args=[str(ROUNDS)]) as program:
        for _ in range(ROUNDS):
            assert await program.line() == "ready"
            await asyncio.sleep(chance.random() / 20)
            await shown(app, "job")
            await command(app, "kill", connid="job")
        assert await program.end() == ["end"]
