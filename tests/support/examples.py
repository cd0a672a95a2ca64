"""The programs in `examples/`: what each needs, and how it is built and run."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.servers import ROOT

FOLDER = ROOT / "examples"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hourglass"
BUILD_PATIENCE = 600
"""Seconds that a build may take, with nothing in the caches of its package manager."""
RUN_PATIENCE = 60
COLOUR = re.compile(r"\x1b\[[\d;]*m")


@dataclass(frozen=True)
class Example:
    """A program: commands and files with the oldest version that will do, and what to call."""

    run: list[str]
    build: str = ""
    needs: dict[str, str] = field(default_factory=dict)


EXAMPLES = {
    "javascript": Example(
        ["npm", "start", "--silent"],
        build="npm ci --silent",
        needs={"node": "20", "npm": ""},
    ),
    "python": Example([sys.executable, "main.py"]),
    "java": Example(
        ["mvn", "--quiet", "--batch-mode", "exec:exec"],
        build="mvn --quiet --batch-mode compile",
        needs={"javac": "17", "mvn": "3.6"},
    ),
    "go": Example(
        ["build/example"],
        build="go build -mod=readonly -o build/example .",
        needs={"go": "1.26"},
    ),
    "rust": Example(
        ["build/example"],
        build="cargo build --quiet && mkdir -p build"
        ' && cp "$CARGO_TARGET_DIR/debug/hourglass-example" build/example',
        needs={"cargo": "1.85", "pkg-config": "", "/usr/include/openssl/ssl.h": ""},
    ),
    "cpp": Example(
        ["build/example"],
        build="make --silent",
        needs={
            "make": "",
            "g++": "8",
            "/usr/include/boost/beast.hpp": "",
            "/usr/include/nlohmann/json.hpp": "",
        },
    ),
    "curl": Example(["./main.sh"], needs={"bash": "", "curl": "7.76", "jq": ""}),
}


RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid4().hex
"""What the processes of one run of the tests have in common."""
ONCE = """
mkdir -p build
[ "$(cat build/run 2>/dev/null)" = "$0" ] || { eval "$1" && echo "$0" > build/run; }
"""
"""A script that runs a command in a folder once in each run of the tests."""


class Build:
    """A build under way, behind whatever else this machine does.

    Tests that run in several processes build once: who comes second waits and has it.
    """

    def __init__(self, command: str, folder: Path) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        # Go has a cache of its own; Cargo's has to be named, for a new clone to find it.
        target = os.environ.get("CARGO_TARGET_DIR") or str(CACHE / "cargo")
        self._process = subprocess.Popen(
            ["nice", "-n", "10", "flock", ".", "sh", "-c", ONCE, RUN, command],
            cwd=folder,
            env={**os.environ, "CARGO_TARGET_DIR": target},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    async def done(self) -> None:
        """Wait until it has succeeded."""
        code = await asyncio.to_thread(self._process.wait, BUILD_PATIENCE)
        self._output.seek(0)
        assert code == 0, self._output.read().decode(errors="replace")

    def stop(self) -> None:
        """End it, whether it is done or not."""
        with suppress(ProcessLookupError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()
        self._output.close()


_builds: dict[str, Build] = {}


def begin_builds(names: set[str]) -> None:
    """Build those of these examples that can be, all at once."""
    for name in names:
        if EXAMPLES[name].build and not lacking(EXAMPLES[name].needs):
            begin_build(name, EXAMPLES[name].build, FOLDER / name)


def begin_build(name: str, command: str, folder: Path) -> None:
    """Build something by this name, if that has not been begun."""
    if name not in _builds:
        _builds[name] = Build(command, folder)


def stop_builds() -> None:
    while _builds:
        _builds.popitem()[1].stop()


async def built(name: str) -> None:
    """Wait until an example is built."""
    if name in EXAMPLES:
        begin_builds({name})
    if name in _builds:
        await _builds[name].done()


def lacking(needs: dict[str, str]) -> list[str]:
    """What this machine has not, of commands and files with the oldest version that will do."""
    return [f"{tool} {least}".strip() for tool, least in needs.items() if not has(tool, least)]


def skip_without(needs: dict[str, str]) -> None:
    """Skip a test that needs what this machine has not; in CI it fails."""
    if missing := lacking(needs):
        why = f"this needs {', '.join(missing)}"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


def has(tool: str, least: str) -> bool:
    if tool.startswith("/"):
        return Path(tool).exists()
    if shutil.which(tool) is None:
        return False
    return not least or numbers(version_of(tool)) >= numbers(least)


def version_of(tool: str) -> str:
    ask = [tool, "version" if tool == "go" else "--version"]
    # Go would else fetch the version that the example names, or say that it can't.
    environ = {**os.environ, "GOTOOLCHAIN": "local"}
    told = subprocess.run(ask, capture_output=True, text=True, env=environ, cwd="/").stdout
    found = re.search(r"\d+(\.\d+)*", COLOUR.sub("", told))
    return found[0] if found else "0"


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


async def run(command: list[str], folder: Path, url: str, token: str | None = None) -> str:
    """What a program prints."""
    environ = {key: value for key, value in os.environ.items() if key != "HOURGLASS_TOKEN"}
    environ["HOURGLASS_URL"] = url
    if token is not None:
        environ["HOURGLASS_TOKEN"] = token
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), RUN_PATIENCE)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, (output + errors).decode(errors="replace")
    # Maven ends with a colour, even where there are none.
    return COLOUR.sub("", output.decode())
