"""How a client comes to know what a room is like: by what it missed, or by a snapshot.

One that reads too slowly falls behind: it is sent no more of the room until it has drained, and
then the same as one that was away.
"""

import asyncio
from collections.abc import Callable, Mapping

from server.board import retold
from server.budget import LITTLE, Budget
from server.config import Config
from server.contract.messages import Frame, Reported, Since, encode
from server.core.replay_memory import ReplayMemory
from server.core.room import COPIES, EVENT, Room
from server.core.subscribers import Client
from server.errors import Unavailable
from server.store.interface import Store


class CatchUp:
    """Brings clients up to date, as far as there is memory for it."""

    def __init__(
        self,
        store: Store,
        config: Config,
        budget: Budget,
        rooms: Mapping[str, Room],
        replay: ReplayMemory,
        on_snapshot: Callable[[Client, str], None],
    ) -> None:
        """`on_snapshot` is told who was behind in a room and has been sent a snapshot of it."""
        self._store = store
        self._config = config
        self._now = store.now
        self._budget = budget
        self._rooms = rooms
        self._replay = replay
        self._on_snapshot = on_snapshot
        self.short = False
        """Whether somebody waits for memory to be sent what it needs."""
        self.snapshots_encoded = 0

    def send_missed(self, client: Client, room: Room, since: Since | None) -> None:
        """Send a client that joins a room what it missed, or a snapshot, now or once there is
        memory for that."""
        name = room.board.room
        if client.backlog() > self._config.max_backlog:
            # It has not read the snapshots that it was granted before: one more when it has.
            self.fall_behind(client, name, room.board.seq)
        elif since is not None and since.epoch == self._store.epoch and room.reaches(since.seq):
            if self._has_memory(sum(len(frame.body) for _, _, frame in room.after(since.seq))):
                for _, _, frame in room.after(since.seq):
                    client.send_exempt(frame)
                self._send_reported(client, room, since.seq)
            else:
                self.fall_behind(client, name, since.seq)
        elif not self.send_snapshot(client, room):
            self.fall_behind(client, name, room.board.seq)

    async def reach_back(self, room: Room, seq: int) -> None:
        """Lengthen a room's tail from the store until it holds all after `seq`, if that is kept."""
        while seq < room.board.seq and not room.reaches(seq):
            stood = room.board.seq
            entries = await self._store.read(room.board.room, seq)
            if entries is None:
                return
            first = room.tail[0][0] if room.tail else room.board.seq + 1
            older = [entry for entry in entries if entry.event.seq < first]
            if older and older[-1].event.seq == first - 1:
                for entry in reversed(older):
                    frame = Frame(entry.event.name, entry.body)
                    room.tail.appendleft((entry.event.seq, entry.event.connid, frame))
                    self._replay.count(EVENT + COPIES * len(entry.body))
            elif room.board.seq == stood:
                return  # What is between is not there, and will not come.

    async def bring_up_to_date(self, client: Client) -> None:
        """Bring a client that was too slow up to date, once all that it was sent is on its way."""
        if client.backlog() > 0:
            self._drop_if_stuck(client)
            return
        client.slow_since = None
        for name, before in list(client.behind.items()):
            room = self._rooms.get(name)
            if room is not None:
                try:
                    if name not in client.rooms:
                        await self.reach_back(room, before)
                    elif not room.board.whole:
                        await self._store.board(name)
                except Unavailable:
                    continue
            # Meanwhile it may have asked for more, or have left.
            seq = client.behind.pop(name, None)
            if room is not None and seq is not None:
                self._send_all_since(client, room, seq)

    def _drop_if_stuck(self, client: Client) -> None:
        now, since = asyncio.get_running_loop().time(), client.slow_since
        if since is not None and now - since > self._config.slow_timeout:
            client.drop()

    def _send_all_since(self, client: Client, room: Room, seq: int) -> None:
        """Send a client that has all of a room up to `seq` what it needs to have all again."""
        name = room.board.room
        if name in client.rooms:
            if self.send_snapshot(client, room):
                self._on_snapshot(client, name)
            else:
                client.behind[name] = seq
        elif not self._send_watched(client, room, seq):
            client.drop()  # What it missed is no longer kept: it has to join again.

    def _send_watched(self, client: Client, room: Room, seq: int) -> bool:
        """Send the entries after `seq` of the jobs that a client watches, if they are at hand."""
        name = room.board.room
        watched = {connid for of, connid in client.watched if of == name}
        return self.send_after(client, room, seq, watched)

    def send_after(self, client: Client, room: Room, seq: int, connids: set[str]) -> bool:
        """Send the entries after `seq` of these jobs, if they are at hand."""
        if not room.reaches(seq):
            return False
        for _, connid, frame in room.after(seq):
            if connid in connids:
                client.send_exempt(frame)
        self._send_reported(client, room, seq, connids)
        return True

    def fall_behind(self, client: Client, name: str, seq: int) -> None:
        """Send a client no more of a room, of which it has all up to `seq`, until it drains."""
        if not client.behind or client.slow_since is None:
            client.slow_since = asyncio.get_running_loop().time()
        client.behind[name] = seq

    def _has_memory(self, size: int) -> bool:
        """Whether there is memory for so many bytes for one client; else it is tried again soon."""
        enough = size <= LITTLE or self._budget.admits(size)
        self.short = self.short or not enough
        return enough

    def send_snapshot(self, client: Client, room: Room) -> bool:
        """Send a client how a room is now; false where there is no memory for that."""
        board, state = room.board, room.snapshot
        if state is None:
            if not self._has_memory(room.snapshot_size):
                return False
            if not board.whole:
                self.short = True  # Read from the store before it is tried again.
                return False
            state = room.encode()
            self._replay.count(len(state))
            self.snapshots_encoded += 1
        if not self._budget.admits_shared(state):
            self.short = True
            return False
        at = {"room": board.room, "epoch": self._store.epoch, "seq": board.seq, "now": self._now()}
        client.send_snapshot(b"%b," % encode(at)[:-1], state)
        return True

    def _send_reported(
        self, client: Client, room: Room, seq: int, connids: set[str] | None = None
    ) -> None:
        """Send the progress that was reported at `seq` or later: the log does not tell it."""
        board = room.board
        for connid, reported in room.reported.items():
            if reported >= seq and (connids is None or connid in connids):
                job = board.running[connid]
                progress = retold(job, job.progress or Reported(), self._now())
                client.send_exempt(Frame("progress", encode(progress)))
