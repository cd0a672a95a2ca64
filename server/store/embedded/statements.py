"""Every statement that the embedded store makes of its file, beside the tables of `schema.py`.

They stand together so that a test can read how SQLite answers each: by an index, whatever is kept.
Where rows go in, or names, `insertion` and `naming` make the statement for so many.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

CHUNKS = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Rows that one statement takes: few sizes, so that SQLite keeps every statement compiled."""

# What is read at the start, once and whole.

RUNNING = "select run, job from running"

UNANSWERED = "select job from ended where unanswered"

ALL_ENDED_IDS = "select id from ended indexed by ended_by_room"

ROOMS = """
with recursive rooms (room) as (
  select min(room) from log
  union all
  select (select min(room) from log where room > rooms.room) from rooms where room is not null
)
select room,
  (select first from log where log.room = rooms.room order by last limit 1),
  (select max(last) from log where log.room = rooms.room)
from rooms where room is not null
"""
"""Each room with its first and last seq: by seeks, where a `group by` would read the whole log."""

LATEST = "select entries from log where id = (select max(id) from log)"
"""The segment that was written last."""

ROOMS_ALONE = """
with recursive rooms (room) as (
  select min(room) from log
  union all
  select (select min(room) from log where room > rooms.room) from rooms where room is not null
)
select room, (select max(last) from log where log.room = rooms.room)
from rooms where room is not null
"""
"""Each room with its last seq, from an index alone."""

FIRST = "select first from log where room = ? order by last limit 1"

# What is asked.

META = "select value from meta where name = ?"

LOG = "select first, entries from log where room = ? and last > ? order by last"

SEGMENT = "select first, entries from log where room = ? and last >= ? order by last limit 1"
"""The segment that holds a seq."""

SEQS = """
select start, null, null, null from running where run = ?
union all
select start, seq, stop, amend from (
  select start, seq, stop, amend from ended indexed by ended_by_run
  where run = ? and room = ? and connid = ? order by seq desc limit 1
)
"""
"""The seqs of all that has befallen a run; 0 or null where it has not, or is not known."""

EXTENSIONS = "select seq from extended where run = ? and room = ?"
"""The seqs of the moves of a run's deadline."""

_in_room = "from ended where room = ? and seq < ? order by seq desc limit ?"
_of_connid = """
from ended where room = ? and connid = ? and seq < ? order by seq desc limit ?
"""

HISTORY = f"select job {_in_room}"

HISTORY_IDS = f"select id {_in_room}"
"""The rows, from an index alone: it is read where a row of the table cannot be."""

HISTORY_OF_CONNID = f"select job {_of_connid}"

HISTORY_OF_CONNID_IDS = f"select id {_of_connid}"

ENDED = """
select job from ended indexed by ended_by_run
where run = ? and room = ? and connid = ? order by seq desc limit 1
"""

ENDED_IDS = "select id from ended indexed by ended_by_run where run = ?"

JOB = "select job from ended where id = ?"

ENDED_WITH_KEY = """
select job from ended where room = ? and connid = ? and key = ? order by seq desc
"""

STARTS = "select run, start from running where run in ({})"

# What is changed.

INTO_META = "insert or replace into meta values (?, ?)"

INTO_META_ONCE = "insert or ignore into meta values (?, ?)"

# "or rollback", as nothing of a batch is kept where one row cannot be: to be able to take back a
# single statement SQLite would keep a copy of each page that it changes.

INTO_LOG = "insert or rollback into log (room, first, last, entries) values {}"

INTO_RUNNING = """
insert or rollback into running (run, start, job) values {}
on conflict (run) do update set job = excluded.job
"""

INTO_ENDED = """
insert or rollback into ended (room, seq, connid, run, start, unanswered, key, job)
values {}
"""

INTO_EXTENDED = "insert or rollback into extended (room, seq, run) values (?, ?, ?)"

STOPPED = """
update ended set unanswered = 0, stop = ?, job = case when json_valid(cast(job as text))
  then cast(json_set(cast(job as text), '$.exit', ?, '$.stopped_at', json(?)) as blob)
  else job end
where room = ? and seq = ?
"""
"""A job that cannot be read stays so: it must not keep others from being written with it."""

ANNOTATED = {
    "stopped": "update ended set unanswered = 0, stop = ?, job = ? where room = ? and seq = ?",
    "amended": "update ended set amend = ?, job = ? where room = ? and seq = ?",
}
"""By the name of the event."""

END = "delete from running where run in ({})"

TRIM_LOG = "delete from log where room = ? and last <= ?"

TRIM_ENDED = "delete from ended where room = ? and seq <= ?"

TRIM_EXTENDED = "delete from extended where room = ? and seq <= ?"

DROP_LOGS = "delete from log where room in ({})"

DROP_ENDED = "delete from ended where room in ({})"

DROP_EXTENDED = "delete from extended where room in ({})"


@lru_cache
def insertion(statement: str, columns: int, rows: int) -> str:
    """The statement for so many rows."""
    return statement.format(",".join([f"({_holes(columns)})"] * rows))


@lru_cache
def naming(statement: str, names: int) -> str:
    """The statement for so many names."""
    return statement.format(_holes(names))


def chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Rows or names in parts of the sizes that statements are made for."""
    position = 0
    while position < len(rows):
        size = next(size for size in CHUNKS if size <= len(rows) - position)
        yield rows[position : position + size]
        position += size


def _holes(values: int) -> str:
    return ",".join("?" * values)
