"""A server under load that is stopped, killed or starved, and then held to all that it said."""

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path

from tests.support.clients import PATIENCE
from tests.support.load import (
    LINES,
    ROOMS,
    Ledger,
    Line,
    Replay,
    check_log,
    check_promises,
    finish_all,
    free_port,
    read_log,
    work,
)
from tests.support.servers import Process, eventually


def lasting_server(database: Path | str, **environ: str) -> Process:
    """A server that has the same port and its whole log each time it starts."""
    server = Process(Path(database), PRESENCE_INTERVAL="0.1", HISTORY="1000000", **environ)
    server.port = free_port()
    return server


async def opened(kinds: Iterable[type[Line]], url: str) -> list[Line]:
    """Lines to a server that hear nothing of any room."""
    lines = [kind() for kind in kinds]
    for line in lines:
        await line.open(url, rooms=[])
    return lines


class Workers:
    """Clients of every door that change jobs until they lose their connections."""

    def __init__(self, ledger: Ledger, chance: random.Random) -> None:
        """What they are told goes into `ledger`; what they do is up to `chance`."""
        self.ledger = ledger
        self._chance = chance
        self._lines: list[Line] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self, url: str, number: int) -> None:
        """Let so many connect, and begin to work when all are there."""
        self._lines = await opened((LINES[n % len(LINES)] for n in range(number)), url)
        self._tasks = [
            asyncio.create_task(work(line, self.ledger, self._chance, f"client-{n}"))
            for n, line in enumerate(self._lines)
        ]

    async def until_acknowledged(self, more: int, patience: float = PATIENCE) -> None:
        """Wait until so many more changes are acknowledged."""
        enough = len(self.ledger.acknowledged) + more
        await eventually(lambda: len(self.ledger.acknowledged) >= enough, patience)

    async def until_refused(self, more: int) -> None:
        """Wait until so many more changes could not be made durable."""
        enough = self.ledger.unavailable + more
        await eventually(lambda: self.ledger.unavailable >= enough, PATIENCE)

    async def leave(self) -> None:
        """Wait until all have lost their connections; raises what went wrong for any."""
        await finish_all(self._tasks)
        for line in self._lines:
            await line.close()


async def check_rooms(line: Line, ledger: Ledger, epoch: str | None = None) -> dict[str, Replay]:
    """Hold a server to all that is in the ledger; the state of each room as its log tells it.

    The log has to be that of `epoch`, where one is given.
    """
    states = {}
    for room in ROOMS:
        events, told = await read_log(line, room)
        assert epoch in (None, told), "the log is another"
        states[room] = check_log(events, told)
        check_promises(ledger, room, states[room])
    return states
