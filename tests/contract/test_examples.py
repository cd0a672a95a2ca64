"""Every program in `examples/` does what they all do, in its own toolchain."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.conftest import Serve
from tests.support.browsers import chromium
from tests.support.examples import EXAMPLES, FOLDER, built, lacking, run, skip_without
from tests.support.servers import ROOT
from tests.support.tokens import SECRET, token

README = (FOLDER / "README.md").read_text()
TOKEN = token(rooms=["example-*"])
ELSEWHERE = pytest.mark.elsewhere
ATTEMPTS = {"go": 3}
"""On a busy machine Go's client loses a packet now and then, and says so after a while."""


def expected() -> str:
    """What the README says that all print."""
    found = re.search(r"```\n(.*?)```", README, re.S)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    "name",
    ["python", *(pytest.param(name, marks=ELSEWHERE) for name in EXAMPLES if name != "python")],
)
async def test_an_example_prints_what_all_do_with_a_token_and_without(
    serve: Serve, name: str
) -> None:
    skip_without(EXAMPLES[name].needs)
    await built(name)
    program = EXAMPLES[name].run, FOLDER / name
    for attempts_left in reversed(range(ATTEMPTS.get(name, 1))):
        free, guarded = await serve(), await serve(auth_secret=SECRET)
        try:
            printed = await asyncio.gather(
                run(*program, free.url), run(*program, guarded.url, TOKEN)
            )
        except AssertionError:
            if not attempts_left:
                raise
        else:
            assert list(printed) == [expected(), expected()]
            break


@asynccontextmanager
async def served_page() -> AsyncIterator[str]:
    """The folder of the page, on an origin of its own."""
    site = web.Application()
    site.router.add_static("/", FOLDER / "html")
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@ELSEWHERE
@pytest.mark.parametrize("secret", ["", SECRET])
async def test_the_page_shows_what_all_print(serve: Serve, secret: str) -> None:
    async with served_page() as origin, chromium() as browser:
        app = await serve(auth_secret=secret, allowed_origins=origin)
        page = await browser.new_page()
        fragment = f"#token={TOKEN}" if secret else ""
        await page.goto(f"{origin}/index.html?url={app.url}{fragment}")
        await page.get_by_text("running:").wait_for(timeout=20_000)
        assert await page.locator("#steps").text_content() == expected()


def test_a_toolchain_that_is_missing_or_too_old_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lacking(EXAMPLES["go"].needs) == ["go 1.26"]
    assert lacking(EXAMPLES["javascript"].needs) == ["node 20", "npm"]
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.25.9 linux/amd64\n")
    old.chmod(0o755)
    assert lacking(EXAMPLES["go"].needs) == ["go 1.26"]
    old.write_text("#!/bin/sh\necho go version go1.100.0 linux/amd64\n")
    assert lacking(EXAMPLES["go"].needs) == []


def test_every_example_is_listed_and_told_how_to_run() -> None:
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir()}
    assert folders == {*EXAMPLES, "html", "bullmq"}
    for name in folders:
        assert f"| [{name}]({name}) |" in README
        assert (FOLDER / name / "README.md").exists()


def test_the_python_example_is_pinned_to_what_it_is_tested_with() -> None:
    def pins(text: str) -> set[str]:
        return {line for line in text.splitlines() if "==" in line}

    wanted = pins((FOLDER / "python/requirements.txt").read_text())
    assert wanted
    assert wanted <= pins((ROOT / "requirements.txt").read_text())
