"""What the file of the store must not do: read whole tables where a few rows would do."""

from pathlib import Path

import pytest

from server.errors import RateLimited
from server.limits import Bucket, weight
from server.store.sqlite import CHUNKS, ROOMS, Batch, Database
from tests.conftest import Settings
from tests.support.servers import Clock, command, seen, serving


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(str(tmp_path / "jobs.db"))
    database.open()
    return database


def plan_of(database: Database, statement: str, values: list[object]) -> str:
    rows = database._db.execute(f"explain query plan {statement}", values)
    return "\n".join(row[-1] for row in rows)


@pytest.mark.parametrize("size", CHUNKS)
def test_ends_are_looked_up_and_not_searched_for(database: Database, size: int) -> None:
    statements: list[str] = []
    database._db.set_trace_callback(statements.append)
    database.write(Batch(running={("main", str(number)): None for number in range(size)}))
    deletes = [statement for statement in statements if statement.startswith("delete")]
    assert len(deletes) == 1
    assert "SCAN" not in plan_of(database, deletes[0], [])
    database.close()


def test_rooms_are_found_by_seeks(database: Database) -> None:
    plan = plan_of(database, ROOMS, [])
    assert "SCAN log" not in plan
    database.close()


async def test_an_ended_job_is_the_same_after_a_restart(kept: Settings) -> None:
    clock = Clock(1_700_000_000.123456)
    settings = {**kept, "now": clock}
    async with serving(**settings) as app:
        job = (await command(app, "request", connid="a", time=60, lease=1.1))["job"]
        clock.now += 0.000001
        await command(app, "progress", connid="a", run=job["run"], done=0.1)
        await command(app, "kill", connid="a")
        clock.now += 0.000001
        await command(app, "stopped", connid="a", run=job["run"], exit=-1)
        before = seen(list((await app.store.board("main")).ended))
        history = (await command(app, "history"))["jobs"]
    async with serving(**settings) as app:
        assert seen(list((await app.store.board("main")).ended)) == before == history


async def test_heavy_answers_count_as_many_commands() -> None:
    bucket = Bucket(10)
    bucket.take(0)
    bucket.charge(weight(16_384 * 100))
    with pytest.raises(RateLimited) as refused:
        bucket.take(0)
    assert 8 < refused.value.retry_after < 9
