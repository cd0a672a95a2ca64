"""Real tools under `run`: what they show, and what is read of it.

Those that every machine with the tests has run always; in `make soak` all that are installed, and a
matrix is printed.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.app import App
from tests.conftest import Connect, Tell
from tests.support.cli import Cli
from tests.support.soak import SOAK

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Tool:
    """A command that shows progress, on a terminal at least, and what it needs."""

    name: str
    script: str
    words: bool = False
    """Whether it is shown in words, and not as a bar."""
    always: bool = False
    """Whether it is there wherever the tests are, and quick."""


PYTHON = sys.executable
TOOLS = [
    Tool("curl", "curl --limit-rate 12M -o out file://$PWD/big", always=True),
    Tool("git", "git clone --progress --no-local repository copy", words=True, always=True),
    Tool("rich", f"{PYTHON} bar.py", always=True),
    Tool("pytest", f"{PYTHON} -m pytest -v -c /dev/null --rootdir . test_slow.py", always=True),
    Tool("dd", "dd if=big of=out status=progress bs=64k"),
    Tool("pv", "pv -L 12M big >out"),
    Tool("rsync", "rsync --info=progress2 --bwlimit=12M big out"),
    Tool("xz", "xz -T1 -1 -v -k -f big"),
    Tool("7zz", "7zz a -bsp1 -mx1 out.7z big"),
    Tool("cmake", "cmake -S project -B build >/dev/null && cmake --build build"),
    Tool("ninja", "cmake -G Ninja -S project -B ninja >/dev/null && ninja -C ninja"),
    Tool("ddrescue", "ddrescue --max-read-rate=12M big rescued"),
    Tool("rclone", "rclone copyto -P --bwlimit 12M big copied"),
    Tool("parallel", "seq 12 | parallel --will-cite --bar -j2 'sleep 0.3; :'"),
    Tool("fio", "fio --name=job --filename=fio.bin --size=30M --rw=write --rate=8M"),
    Tool("nmap", "nmap -sT -p1-2000 --max-rate 700 --stats-every 0.5s 127.0.0.1"),
]  # fmt: skip


def prepare(folder: Path) -> None:
    """What the tools work on."""
    (folder / "big").write_bytes(bytes(range(256)) * 4096 * 30)
    (folder / "test_slow.py").write_text(
        "import pytest, time\n"
        "@pytest.mark.parametrize('n', range(20))\n"
        "def test_it(n): time.sleep(0.1)\n"
    )
    (folder / "bar.py").write_text(
        "import rich.progress, time\nfor _ in rich.progress.track(range(20)): time.sleep(0.1)\n"
    )
    project = folder / "project"
    project.mkdir()
    names = [f"m{number}.c" for number in range(20)]
    for name in names:
        (project / name).write_text(f"int {name[:-2]}(void) {{ return 0; }}\n")
    (project / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\nproject(x C)\n"
        f"add_library(x STATIC {' '.join(names)})\n"
    )


REPOSITORY = """
git init -q repository && cd repository && git config user.name a && git config user.email a@b
for i in $(seq 30); do seq $i 4000 >file$i; done
git add . && git commit -qm first
"""


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
async def test_the_progress_of_a_tool_that_runs_is_read(
    app: App, connect: Connect, tell: Tell, tmp_path: Path, tool: Tool
) -> None:
    if not tool.always and not (SOAK and shutil.which(tool.name)):
        tell(f"{tool.name}: not run here") if SOAK else None
        return
    prepare(tmp_path)
    script = f"cd {tmp_path}; {REPOSITORY if tool.name == 'git' else ''} cd {tmp_path}; "
    client = await connect(app.url, "websocket", rooms=["main"])
    args = ("run", "--name", tool.name, "--pty", "--", "bash", "-c", script + tool.script)
    async with Cli(app.url, *args) as cli:
        assert await cli.end(60) == 0, cli.stdout
    await client.event("finished")
    told = [body for name, body in client.events if name == "progress"]
    bar = [body["done"] for body in told if body["done"] is not None]
    words = [body["note"] for body in told if body["done"] is None and body["note"]]
    tell(f"{tool.name}: {len(cli.stdout)} bytes shown, bar {bar}, words {words}")
    if tool.name != "dd":
        assert words if tool.words else bar
    assert bar == sorted(bar)
