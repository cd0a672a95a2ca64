"""The programs in `tests/returning/`: how they are built, run and listened to."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from tests.support import examples
from tests.support.servers import ROOT

FOLDER = ROOT / "tests/returning"
PATIENCE = 40
"""Seconds that a client may take for what it has to hear, after a start on a busy machine."""
BUILDS = {
    "java": "mvn --quiet --batch-mode compile exec:exec",
    "rust": 'cargo build --quiet && cp "$CARGO_TARGET_DIR/debug/returning" build/returning',
}
NEEDS = {
    **examples.EXAMPLES["javascript"].needs,
    **examples.EXAMPLES["java"].needs,
    **examples.EXAMPLES["rust"].needs,
}
LANGUAGES = ["sync", "async", "simple", "javascript", "java", "rust"]
"""All clients; the first three are of Python."""


def begin_builds() -> None:
    """Build the programs, if this machine can."""
    if not examples.lacking(NEEDS):
        for name, command in BUILDS.items():
            examples.begin_build(f"returning {name}", command, FOLDER / name)


async def built() -> None:
    """Wait until all are built."""
    begin_builds()
    for name in BUILDS:
        await examples.built(f"returning {name}")


def command(language: str) -> list[str]:
    """What starts a client."""
    if language == "javascript":
        return ["node", "client.mjs"]
    if language == "rust":
        return ["rust/build/returning"]
    if language == "java":
        return ["java", "-cp", (FOLDER / "java/target/classpath").read_text().strip(), "Client"]
    return [sys.executable, "client.py", language]


class Returning:
    """A client that runs, and the lines that it has printed."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.lines: list[str] = []

    def errors(self) -> str:
        """The end of what it has said beside that."""
        return self._log.read_text()[-1000:]

    async def stop(self) -> None:
        """End it, if it has not ended."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def until(self, line: str) -> None:
        """Wait until it has printed a line."""
        assert self._process.stdout is not None
        while line not in self.lines:
            read = await self._process.stdout.readline()
            assert read, "it has ended"
            self.lines.append(read.decode().strip())


@asynccontextmanager
async def running(
    url: str, transport: str, token_file: Path
) -> AsyncIterator[dict[str, Returning]]:
    """All clients at once, by their languages; what they say beside what they print is in files
    beside the token."""
    environ = {**os.environ, "URL": url, "TRANSPORT": transport, "TOKEN_FILE": str(token_file)}
    async with AsyncExitStack() as stack:
        clients = {}
        for language in LANGUAGES:
            log = token_file.parent / f"{language}.log"
            errors = stack.enter_context(log.open("wb"))
            process = await asyncio.create_subprocess_exec(
                *command(language),
                cwd=FOLDER,
                env=environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
            client = clients[language] = Returning(process, log)
            stack.push_async_callback(client.stop)
        yield clients


async def all_print(clients: dict[str, Returning], line: str) -> None:
    """Wait until all have printed a line, and name those that have not in time."""
    waiting = {asyncio.create_task(client.until(line)): name for name, client in clients.items()}
    await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_EXCEPTION)
    for task in waiting:
        task.cancel()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    missing = {name for name, error in zip(waiting.values(), ended, strict=True) if error}
    heard = {name: (client.lines, client.errors()) for name, client in clients.items()}
    assert not missing, f"no {line!r} from {missing}: {heard}"
