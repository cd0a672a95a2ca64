"""What contributors use besides the tests: make, its reruns, a cluster for a look, hooks."""

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.cli import Cli
from tests.support.clients import PATIENCE
from tests.support.load import free_port
from tests.support.redis import RedisServer
from tests.support.servers import ROOT, Process

MAKEFILE = (ROOT / "Makefile").read_text()
FAILS_ONCE = """
from pathlib import Path

def test_that_fails_beside_others():
    mark = Path(__file__).with_name("ran")
    ran, _ = mark.exists(), mark.touch()
    assert ran {or_not}

def test_that_passes():
    pass
"""
QUICKLY = {
    "PYTHON": sys.executable,
    "PROCESSES": "0",
    "PYTEST_ADDOPTS": "-p xdist",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}


async def output_of(*command: str, environ: dict[str, str], exit_code: int = 0) -> str:
    """What a command prints, with both streams in their order."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 2 * PATIENCE)
    assert process.returncode == exit_code, output.decode()
    return output.decode()


async def test_make_by_itself_lists_every_target() -> None:
    targets = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.M)[0].replace("\\", "").split()
    listed = re.findall(
        r"^make (\S+) +\S", await output_of("make", environ={"MAKEFLAGS": ""}), re.M
    )
    assert sorted(listed) == sorted(targets)


def test_every_target_that_the_documents_name_is_there() -> None:
    documents = [path.read_text() for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md")]
    named = {name for text in documents for name in re.findall(r"`?make ([a-z][a-z-]+)`", text)}
    assert named
    assert all(re.search(rf"^{name}:", MAKEFILE, re.M) for name in named)


@pytest.mark.slow
@pytest.mark.parametrize(("or_not", "exit_code"), [("", 0), ("and False", 1)])
async def test_what_failed_beside_others_runs_once_more_and_that_is_said(
    tmp_path: Path, or_not: str, exit_code: int
) -> None:
    (tmp_path / "pytest.ini").touch()
    file = tmp_path / "test_some.py"
    file.write_text(FAILS_ONCE.format(or_not=or_not))
    said = await output_of("scripts/run_tests.sh", str(file), environ=QUICKLY, exit_code=exit_code)
    first, rerun, result = said.split("RERUN: ")
    assert "1 failed, 1 passed" in first
    assert ("1 failed" if exit_code else "PASSED") in rerun
    assert "test_that_passes" not in rerun
    assert result.startswith("failed again" if exit_code else "passed")


@pytest.mark.slow
async def test_tests_that_pass_run_once(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    file = tmp_path / "test_some.py"
    file.write_text("def test_that_passes():\n    pass\n")
    assert "RERUN" not in await output_of("scripts/run_tests.sh", str(file), environ=QUICKLY)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
async def test_a_cluster_for_a_look_ends_well_with_ctrl_c(times: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("scripts/cluster.py", "1", str(free_port())),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    async with asyncio.timeout(2 * PATIENCE):
        try:
            while b"Hourglass is on" not in await process.stdout.readline():
                assert process.returncode is None
            for _ in range(times):
                os.killpg(process.pid, signal.SIGINT)  # As a terminal does.
            said = (await process.stdout.read()).decode()
            assert (await process.wait(), "Traceback" in said) == (0, False), said
        finally:
            if process.returncode is None:
                process.terminate()


@pytest.mark.redis
@pytest.mark.slow
async def test_what_tests_stop_has_a_process_group_of_its_own(tmp_path: Path) -> None:
    """Else a SIGHUP might come to all tests, as `Cli.start` tells."""
    async with Process(tmp_path / "jobs.db") as server, Cli(server.url, "watch") as cli:
        with RedisServer(tmp_path) as redis:
            for pid in (server.pid, cli.process.pid, redis.pid):
                assert os.getpgid(pid) == pid


def test_hooks_run_what_is_here() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        program = hook["entry"].split()[0]
        assert program == "make" or (ROOT / program).exists() or ".venv" in program


def test_a_container_for_development_has_what_make_does_not_install() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    packages = (ROOT / ".devcontainer" / container["build"]["dockerfile"]).read_text().split()
    assert {"git", "make", "nodejs", "npm", "python3", "python3-venv"} <= set(packages)
    targets = container["postCreateCommand"].removeprefix("make ").split()
    assert targets == [".venv/dev", "node_modules/installed"]
