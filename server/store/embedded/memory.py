"""Where an embedded store keeps its rows when there is no file: in memory, until the process ends.

Rows stay as they are, which takes less memory than what they say; whoever reads them decodes them.
"""

import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Hashable
from operator import itemgetter
from typing import TypeVar

from msgspec.structs import replace

from server.contract.messages import EndedJob, encode
from server.store.embedded.batch import (
    Backend,
    Batch,
    EndedRow,
    Loaded,
    LogRow,
    decode_ended,
    entry,
)
from server.store.interface import Entry

Name = TypeVar("Name", bound=Hashable)

seq_of = itemgetter(1)
"""The seq of a row."""


class Rows:
    """The rows of one room, the oldest first, and where those of a run or a connid are.

    Lists, and not deques, as a row in the middle of a deque is far from both of its ends.
    """

    def __init__(self) -> None:
        self.log: list[LogRow] = []
        self.ended: list[EndedRow] = []
        self._runs: dict[str, tuple[int, ...]] = {}
        """The seqs of the entries of each run."""
        self._connids: dict[str, list[int]] = {}
        """The seqs of the ends of each connid."""
        self._keys: dict[tuple[str, str], list[int]] = {}
        """The seqs of the ends of each connid that was requested with a key."""

    def add(self, row: LogRow) -> None:
        """Add an entry of the log."""
        _, seq, run, _, _ = row
        self.log.append(row)
        self._runs[run] = (*self._runs.get(run, ()), seq)

    def add_ended(self, row: EndedRow) -> None:
        """Add an ended job."""
        self.ended.append(row)
        self._connids.setdefault(row[2], []).append(row[1])
        if row[5] is not None:
            self._keys.setdefault((row[2], row[5]), []).append(row[1])

    def after(self, seq: int) -> list[LogRow]:
        """The entries with a seq above this one."""
        return self.log[bisect_right(self.log, seq, key=seq_of) :]

    def of_run(self, run: str) -> list[LogRow]:
        """The entries of a run."""
        # A log has no holes, so the seq says where an entry is.
        return [self.log[seq - self.log[0][1]] for seq in self._runs.get(run, ())]

    def end_of_run(self, connid: str, run: str) -> list[EndedRow]:
        """The row of a run of a connid that has ended, if there is one."""
        positions = (self.find_ended(seq) for seq in self._runs.get(run, ()))
        rows = [self.ended[position] for position in positions if position is not None]
        return [row for row in rows if row[2] == connid]

    def find_ended(self, seq: int) -> int | None:
        """Where the job is whose end has this seq."""
        position = bisect_left(self.ended, seq, key=seq_of)
        found = position < len(self.ended) and self.ended[position][1] == seq
        return position if found else None

    def replace_ended(self, seq: int, unanswered: int, job: bytes) -> None:
        """Keep the job whose end has this seq as it is now, unless it is kept no longer."""
        position = self.find_ended(seq)
        if position is not None:
            room, _, connid, run, _, key, _ = self.ended[position]
            self.ended[position] = (room, seq, connid, run, unanswered, key, job)

    def ended_before(self, connid: str | None, before: int | None, limit: int) -> list[EndedRow]:
        """Ended jobs, newest first, of one connid where it is given."""
        if connid is None:
            end = len(self.ended) if before is None else bisect_left(self.ended, before, key=seq_of)
            return self.ended[max(0, end - limit) : end][::-1]
        seqs = self._connids.get(connid, [])
        end = len(seqs) if before is None else bisect_left(seqs, before)
        positions = map(self.find_ended, seqs[max(0, end - limit) : end][::-1])
        return [self.ended[position] for position in positions if position is not None]

    def started_with(self, connid: str, key: str) -> list[EndedRow]:
        """The ended jobs of a connid that were requested with a key, newest first."""
        positions = map(self.find_ended, reversed(self._keys.get((connid, key), ())))
        return [self.ended[position] for position in positions if position is not None]

    def trim(self, last: int) -> None:
        """Keep nothing up to this seq."""
        old = bisect_right(self.log, last, key=seq_of)
        for _, _, run, _, _ in self.log[:old]:
            if seqs := self._runs.pop(run)[1:]:
                self._runs[run] = seqs
        del self.log[:old]
        old = bisect_right(self.ended, last, key=seq_of)
        forget(self._connids, {row[2] for row in self.ended[:old]}, last)
        keys = {(row[2], row[5]) for row in self.ended[:old] if row[5] is not None}
        forget(self._keys, keys, last)
        del self.ended[:old]


def forget(seqs: dict[Name, list[int]], names: set[Name], last: int) -> None:
    """Keep nothing up to a seq, of these names."""
    for name in names:
        of_name = seqs[name]
        del of_name[: bisect_right(of_name, last)]
        if not of_name:
            del seqs[name]


class Memory(Backend):
    """The rows of every room."""

    blocks = False

    def __init__(self) -> None:
        self._rooms: dict[str, Rows] = {}

    def open(self) -> tuple[str, dict[str, Loaded]]:
        return secrets.token_hex(8), {}

    def clock(self) -> tuple[float, float]:
        return 0.0, 0.0

    def floor(self) -> int:
        return 0

    def close(self) -> None:
        self._rooms.clear()

    def check(self) -> None:
        """It is always there."""

    def probe(self, size: int) -> None:
        """There is always room."""

    def write(self, batch: Batch) -> None:
        for room in batch.evicted:
            del self._rooms[room]
        for row in batch.log:
            room = row[0]
            if room not in self._rooms:
                self._rooms[room] = Rows()
            self._rooms[room].add(row)
        for ended in batch.ended:
            self._rooms[ended[0]].add_ended(ended)
        for _, exit, stopped_at, room, end in batch.stopped:
            self._stop(room, end, exit, float(stopped_at))
        for where, end, _, _, job in batch.annotated:
            self._rooms[where].replace_ended(end, 0, job)
        for room, last in batch.trimmed.items():
            self._rooms[room].trim(last)

    def read(self, room: str, after: int) -> list[Entry]:
        rows = self._rooms.get(room)
        return [entry(row[3], row[4]) for row in rows.after(after)] if rows else []

    def read_run(self, room: str, connid: str, run: str) -> list[Entry]:
        rows = self._rooms.get(room)
        return [entry(row[3], row[4]) for row in rows.of_run(run)] if rows else []

    def history(
        self, room: str, connid: str | None, run: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        rows = self._rooms.get(room)
        if rows is None:
            return []
        if run is not None and connid is not None:
            found = rows.end_of_run(connid, run)
        else:
            found = rows.ended_before(connid, before, limit)
        return [decode_ended(row[-1]) for row in found]

    def started_with(self, room: str, connid: str, key: str) -> list[EndedJob]:
        rows = self._rooms.get(room)
        return [decode_ended(row[-1]) for row in rows.started_with(connid, key)] if rows else []

    def _stop(self, room: str, end: int, exit: int | None, at: float) -> None:
        rows = self._rooms[room]
        position = rows.find_ended(end)
        if position is not None:
            job = decode_ended(rows.ended[position][-1])
            rows.replace_ended(end, 0, encode(replace(job, exit=exit, stopped_at=at)))
