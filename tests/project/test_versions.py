"""The version of a release: `server/__init__.py` has it, and everything else has the same."""

import asyncio
import json
import re
import sys
import tomllib

import pytest

import hourglass
from server import __version__
from server.config import Config
from server.contract import asyncapi, openapi
from server.contract.validation import Checker
from server.doors.downloads import wheel
from tests.support.clients import PATIENCE
from tests.support.servers import ROOT


def test_whatever_has_a_version_has_the_same() -> None:
    config = Config()
    checker = Checker(config)
    package = json.loads((ROOT / "package.json").read_text())
    locked = json.loads((ROOT / "package-lock.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {
        "hourglass": hourglass.__version__,
        "wheel": wheel().name.split("-")[1],
        "openapi.json": openapi.document(config, checker)["info"]["version"],
        "asyncapi.json": asyncapi.document(config, checker)["info"]["version"],
        "pyproject.toml": project["version"],
        "package.json": package["version"],
        "package-lock.json": locked["version"],
        "packages of package-lock.json": locked["packages"][""]["version"],
    }
    assert found == dict.fromkeys(found, __version__)


def test_the_documents_speak_of_this_version() -> None:
    releases = re.findall(r"^## (\d.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert releases[0] == __version__
    wheels = re.findall(r"hourglass-([\d.]+)-py3", (ROOT / "docs/cli.md").read_text())
    assert wheels and set(wheels) == {__version__}


@pytest.mark.parametrize("module", ["server", "hourglass"])
async def test_a_program_says_its_version(module: str) -> None:
    folder = ROOT / "client" if module == "hourglass" else ROOT
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "--version", cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, output.decode()) == (0, f"hourglass {__version__}\n")
