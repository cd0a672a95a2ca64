"""What the library costs the programs that use it, beside tqdm and beside nothing."""

import asyncio
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.report import Table, medians, spread
from bench.servers import Server

FOLDER = Path(__file__).parent.parent / "client"
ABOUT = """CPU time of one step of a loop that does nothing else, {medians} in turns, while the
job is on a server."""
START = """A program that does nothing, beside one that only imports the library and one that has
been through one job: {medians}, in turns. The lease keeper is a process beside it."""
LOOPS = """
import json, os, sys, time
import hourglass
from tqdm import tqdm

COUNT = 300_000

def measure(step):
    begun = time.process_time_ns()
    step()
    return (time.process_time_ns() - begun) / COUNT

def through(items):
    for _ in items:
        pass

def report(job):
    for number in range(COUNT):
        job.progress(number / COUNT, "rows")

def update(bar):
    for _ in range(COUNT):
        bar.update()

nowhere = open(os.devnull, "w")
found = {
    "a loop over a range": measure(lambda: through(range(COUNT))),
    "tqdm": measure(lambda: through(tqdm(range(COUNT), file=nowhere))),
    "hourglass.track": measure(lambda: through(hourglass.track(range(COUNT), "loop", time=600))),
    "tqdm.update": measure(lambda: update(tqdm(total=COUNT, file=nowhere))),
}
with hourglass.job("loop", time=600) as job:
    found["job.progress"] = measure(lambda: report(job))
print(json.dumps(found))
"""
MEMORY = """
import json, os, time
status = open("/proc/%s/status" % (os.getpid())).read()
print(json.dumps(int(status.split("VmRSS:")[1].split()[0]) / 1024))
"""
PROGRAMS = {
    "nothing": MEMORY,
    "import hourglass": "import hourglass" + MEMORY,
    "a job": "import hourglass\nwith hourglass.job('job', time=60):" + MEMORY.replace("\n", "\n "),
}
CHILD = "''.join(open(path).read() for path in glob('/proc/self/task/*/children')).strip()"
KEEPER = PROGRAMS["a job"].replace("os.getpid()", f"time.sleep(1) or {CHILD}")
KEEPER = "from glob import glob\n" + KEEPER
"""Of the process that `a job` has started, once it is connected."""


async def measure(rounds: int, scratch: Path) -> list[Table]:
    """Both tables."""
    steps: dict[str, list[float]] = defaultdict(list)
    walls: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, list[float]] = defaultdict(list)
    async with Server(scratch / "library.db") as server:
        for _ in range(rounds):
            for name, cost in (await run(LOOPS, server.port))[0].items():
                steps[name].append(cost)
            for name, program in PROGRAMS.items():
                held, wall = await run(program, server.port)
                memory[name].append(held)
                walls[name].append(wall * 1000)
        keeper, _ = await run(KEEPER, server.port)
    loops = Table("Library: steps", ABOUT.format(medians=medians(rounds)), ("step", "ns"))
    loops.rows += [(name, spread(costs)) for name, costs in steps.items()]
    starts = Table(
        "Library: programs",
        START.format(medians=medians(rounds)),
        ("program", "from start to end, ms", "resident, MiB"),
    )
    starts.rows += [(name, spread(walls[name]), spread(memory[name])) for name in PROGRAMS]
    starts.rows.append(("its lease keeper", "", f"{keeper:.0f}"))
    return [loops, starts]


async def run(program: str, port: int) -> tuple[Any, float]:
    """What a program prints, and how many seconds it took."""
    environ = {"PYTHONPATH": str(FOLDER), "HOURGLASS_URL": f"http://127.0.0.1:{port}"}
    begun = asyncio.get_running_loop().time()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env={**os.environ, **environ}, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    return json.loads(printed), asyncio.get_running_loop().time() - begun
