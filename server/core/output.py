"""Sends what jobs print to those who watch them: joined, a few times a second for each job."""

import asyncio
from collections.abc import Callable

from server.contract.messages import Output
from server.errors import Unavailable
from server.store.interface import Store

Run = tuple[str, str, str]
"""Room, connid and run."""


class OutputPump:
    """Reads what jobs have printed from the store, and sends it on.

    The store only announces that there is output. So an announcement costs little on any number of
    nodes, and what a busy job has printed meanwhile is read in one piece.
    """

    def __init__(
        self,
        store: Store,
        interval: float,
        watched: Callable[[str, str], bool],
        send: Callable[[Output], None],
    ) -> None:
        """`interval` is in seconds; `watched(room, connid)` says whether anybody watches a job."""
        self._store = store
        self._interval = interval
        self._watched = watched
        self._send = send
        # The offset from which the output of each run is still to be sent.
        self._pending: dict[Run, int] = {}
        # The offset up to which it was sent: a read may return more than was announced.
        self._sent: dict[Run, int] = {}
        self._wake = asyncio.Event()

    def offer(self, room: str, connid: str, run: str, offset: int) -> None:
        """A run has printed something, beginning at `offset`, in characters."""
        if self._watched(room, connid):
            key = (room, connid, run)
            self._pending.setdefault(key, max(offset, self._sent.get(key, 0)))
            self._wake.set()

    def show(self, room: str, connid: str, run: str, offset: int) -> None:
        """A new watcher has the output up to `offset`: send what came since, to them too."""
        key = (room, connid, run)
        self._pending[key] = min(offset, self._pending.get(key, offset))
        self._wake.set()

    async def run(self) -> None:
        """Send pending output, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            pending, self._pending = self._pending, {}
            ends = await asyncio.gather(*(self._pass_on(*key, at) for key, at in pending.items()))
            self._sent = dict(zip(pending, ends, strict=True))
            await asyncio.sleep(self._interval)

    async def _pass_on(self, room: str, connid: str, run: str, offset: int) -> int:
        """Send the output from `offset` on; the offset at its end."""
        try:
            printed = await self._store.printed(room, run, offset)
        except Unavailable:
            return offset  # The watchers see a gap.
        if printed.text:
            self._send(Output(room, connid, run, printed.offset, printed.text))
        end, key = printed.offset + len(printed.text), (room, connid, run)
        self._sent[key] = end
        if offset <= self._pending.get(key, end) < end:
            self._pending[key] = end  # Announced meanwhile, and sent just now.
        return end
