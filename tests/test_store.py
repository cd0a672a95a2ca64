"""What the file of the store must not do: read whole tables where a few rows would do."""

from pathlib import Path

import pytest

from server.store.sqlite import CHUNKS, ROOMS, Batch, Database


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
