"""Where an embedded store keeps its rows when there is no file: in memory, until the process ends.

Rows stay as they are, which takes less memory than what they say; whoever reads them decodes them.
"""

import secrets
from bisect import bisect_left
from collections import deque
from itertools import islice
from operator import itemgetter

from server.board import stop
from server.protocol import EndedJob, encode
from server.store import Entry
from server.store.batch import Backend, Batch, Loaded, LogRow, decode_ended, entry


class Memory(Backend):
    """The rows of every room, the oldest first."""

    blocks = False

    def __init__(self) -> None:
        self._log: dict[str, deque[LogRow]] = {}
        self._ended: dict[str, deque[tuple[str, int, str, str, int, bytes]]] = {}

    def open(self) -> tuple[str, dict[str, Loaded]]:
        return secrets.token_hex(8), {}

    def floor(self) -> int:
        return 0

    def close(self) -> None:
        self._log.clear()
        self._ended.clear()

    def ping(self) -> None:
        """It is always there."""

    def write(self, batch: Batch) -> None:
        for room in batch.let_go:
            del self._log[room], self._ended[room]
        for row in batch.log:
            room = row[0]
            if room not in self._log:
                self._log[room], self._ended[room] = deque(), deque()
            self._log[room].append(row)
        for ended in batch.ended:
            self._ended[ended[0]].append(ended)
        for _, exit, stopped_at, room, end in batch.stopped:
            self._stop(room, end, exit, float(stopped_at))
        for room, last in batch.trimmed.items():
            for rows in (self._log[room], self._ended[room]):
                while rows and rows[0][1] <= last:
                    rows.popleft()

    def read(self, room: str, after: int) -> list[Entry]:
        rows = self._log.get(room)
        if not rows:
            return []
        # A log has no holes, so the seq says where an entry is.
        start = max(0, after + 1 - rows[0][1])
        return [entry(row[3], row[4]) for row in islice(rows, start, None)]

    def read_run(self, room: str, connid: str, run: str) -> list[Entry]:
        return [entry(row[3], row[4]) for row in self._log.get(room, ()) if row[2] == run]

    def history(
        self, room: str, connid: str | None, run: str | None, before: int | None, limit: int
    ) -> list[EndedJob]:
        found = (
            decode_ended(job)
            for _, seq, its_connid, its_run, _, job in reversed(self._ended.get(room, ()))
            if (before is None or seq < before)
            and connid in (None, its_connid)
            and run in (None, its_run)
        )
        return list(islice(found, limit))

    def _stop(self, room: str, end: int, exit: int | None, at: float) -> None:
        rows = self._ended[room]
        position = bisect_left(rows, end, key=itemgetter(1))
        if position < len(rows) and rows[position][1] == end:
            _, _, connid, run, _, job = rows[position]
            ended = encode(stop(decode_ended(job), exit, at))
            rows[position] = (room, end, connid, run, 0, ended)
