"""What was acknowledged survives a power cut at any instant.

What a server under load does to its files is recorded, and the power cut again and again in what
was recorded: of what was not synced then anything may be lost.
"""

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from server.app import App
from server.store.interface import StoreError
from tests.conftest import Tell
from tests.support import powercut
from tests.support.clients import Answer
from tests.support.load import (
    Ledger,
    Line,
)
from tests.support.powercut import SYNC, Disk, Entry
from tests.support.servers import Process, command, serving
from tests.support.soak import SEED, SOAK, rounds
from tests.support.trial import Workers, check_rooms

pytestmark = pytest.mark.slow

WORKERS = 8
ENOUGH = 600
"""Changes that a server acknowledges before its power is cut."""
CUTS = 60 if SOAK else 20
"""In what one server has done."""


@dataclass
class TimedLedger(Ledger):
    """A ledger that knows how much was recorded when an acknowledgement came."""

    record: Path = Path()
    sizes: list[int] = field(default_factory=list)

    def note(self, mark: str, answer: Answer) -> None:
        super().note(mark, answer)
        if len(self.acknowledged) > len(self.sizes):
            self.sizes.append(self.record.stat().st_size)

    def until(self, size: int) -> Ledger:
        """What had been acknowledged when so much was recorded."""
        known = [
            told for told, then in zip(self.acknowledged, self.sizes, strict=True) if then <= size
        ]
        return Ledger(known, self.refused)


class Inside(Line):
    """A line to a server in this loop."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app

    async def call(self, name: str, **fields: Any) -> Answer:
        return await command(self._app, name, **fields)


async def recorded(folder: Path, chance: random.Random) -> tuple[list[Entry], TimedLedger]:
    """Load a server until it has acknowledged enough; what it did to its files meanwhile."""
    record, database = folder / "record", folder / "jobs.db"
    library = powercut.recorder(database, record)
    server = Process(database, LD_PRELOAD=str(library), HISTORY="1000000")
    server.forks = False
    ledger = TimedLedger(record=record)
    async with server:
        workers = Workers(ledger, chance)
        await workers.begin(server.url, WORKERS)
        await workers.until_acknowledged(ENOUGH, patience=60)
        await server.kill()
        await workers.leave()
    return powercut.read(record), ledger


async def check(database: Path, ledger: Ledger) -> None:
    """Hold the server that starts on what is left to all that was acknowledged."""
    async with serving(database=str(database), history=1_000_000) as app:
        for _, told in ledger.acknowledged:
            assert told["epoch"] == app.store.epoch, "the log is another"
        await check_rooms(Inside(app), ledger)
        assert (await command(app, "request", connid="another", time=60))["ok"]


async def cut(
    folder: Path, entries: list[Entry], ledger: TimedLedger, chance: random.Random, disk: Disk
) -> int:
    """Cut the power here and there, and check what is left; how often."""
    count = 0
    for last in powercut.cuts(entries, CUTS, disk, chance):
        left = folder / str(count)
        left.mkdir(parents=True)
        disk.fail(left / "jobs.db", chance)
        await check(left / "jobs.db", ledger.until(last.end))
        shutil.rmtree(left)
        count += 1
    return count


async def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path, tell: Tell) -> None:
    done = promised = 0
    for number in rounds(1, 25):
        chance = random.Random(f"{SEED} {number}")
        (tmp_path / str(number)).mkdir()
        entries, ledger = await recorded(tmp_path / str(number), chance)
        assert sum(entry.file == 0 and entry.what == SYNC for entry in entries) > 1
        done += await cut(tmp_path / "left", entries, ledger, chance, Disk())
        promised += len(ledger.acknowledged)
    tell(f"{done} power cuts among {promised} acknowledged changes: nothing was lost")


async def test_a_disk_that_lies_about_what_it_has_synced_is_noticed(tmp_path: Path) -> None:
    chance = random.Random(0)
    entries, ledger = await recorded(tmp_path, chance)
    with pytest.raises((AssertionError, StoreError), match=r"lost|another|cannot be used"):
        await cut(tmp_path / "left", entries, ledger, chance, Disk(lies=True))
