"""Who is in which room, and what they hear of it: the events of its log, progress, presence.

A client is sent a snapshot or the events that it missed (`catch_up.py`), and from then on every
entry of the log in order. One that reads too slowly is skipped, and sent what it missed when it has
caught up: to the protocol it is a client that was away for a moment.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain

from server.budget import AGAIN, Budget
from server.config import Config
from server.contract.messages import (
    Available,
    Finished,
    Frame,
    Killed,
    Output,
    Presence,
    Progress,
    Since,
    encode,
)
from server.core.catch_up import CatchUp
from server.core.output import OutputPump
from server.core.progress_throttle import ProgressGate
from server.core.replay_memory import ReplayMemory
from server.core.room import COPIES, EVENT, Logged, Room
from server.core.subscribers import Client, NewGroup
from server.errors import TooMany, Unavailable
from server.store.interface import Entry, Listener, Store

log = logging.getLogger(__name__)


class Rooms(Listener):
    """The rooms that somebody is in, and all that is sent to them."""

    def __init__(self, store: Store, config: Config, new_group: NewGroup, budget: Budget) -> None:
        """`new_group` makes the group of each room."""
        self._store = store
        self._config = config
        self._new_group = new_group
        self._rooms: dict[str, Room] = {}
        self._replay = replay = ReplayMemory(self._rooms, config)
        self._catch_up = CatchUp(store, config, budget, self._rooms, replay, self._sent_snapshot)
        self._clients: set[Client] = set()
        # Whether the store can be read and written.
        self._reachable = True
        self._progress = ProgressGate(1 / config.progress_rate, self._send_progress)
        self._output = OutputPump(
            store, 1 / config.output_rate, self._is_watched, self._send_output
        )
        self.deliveries = 0
        """Events sent to rooms, each member counted."""

    @property
    def open_rooms(self) -> int:
        """Rooms that somebody is in, watches, or has just asked for."""
        return len(self._rooms)

    @property
    def clients(self) -> int:
        """Clients that have been in a room or watched a job, and are not gone."""
        return len(self._clients)

    @property
    def snapshots_encoded(self) -> int:
        """How often the state of a room was encoded."""
        return self._catch_up.snapshots_encoded

    @property
    def held(self) -> int:
        """Bytes of events and snapshots that are held for those who come, about."""
        return self._replay.measure()

    @property
    def slow(self) -> int:
        """Clients that are behind."""
        return sum(bool(client.behind) for client in self._clients)

    async def run(self) -> None:
        """Send presence and output, and let slow clients catch up or go, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._output.run())
            tasks.create_task(self._tend())
            tasks.create_task(self._make_up())

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(self._config.presence_interval)
            self._tend_rooms()
            await self._catch_up_all()

    async def _make_up(self) -> None:
        """Send clients what there was no memory for, as soon as there is."""
        while True:
            await asyncio.sleep(AGAIN)
            if self._catch_up.short:
                self._catch_up.short = False
                await self._catch_up_all()

    async def _catch_up_all(self) -> None:
        for client in [client for client in self._clients if client.behind]:
            try:
                await self._catch_up.bring_up_to_date(client)
            except Exception:
                log.exception("catching up a client failed")
                client.drop()  # It comes back, and is sent a snapshot.

    async def prepare(self, room: str, since: Since | None) -> Room:
        """Make a room ready for `admit`, with what was missed since then at hand if it is kept."""
        found = self._rooms.get(room)
        if found is None:
            board = await self._store.board(room)
            found = self._rooms.setdefault(room, Room(board, self._new_group))
        elif not found.board.whole:
            await self._store.board(room)
        found.idle = False
        if since is not None and since.epoch == self._store.epoch:
            async with found.reading:
                with suppress(Unavailable):  # A snapshot will do then.
                    if since.seq > found.board.seq:
                        await self._store.board(room)  # It was on a node that is ahead of this.
                    await self._catch_up.reach_back(found, since.seq)
            self._replay.grew(0)
        return found

    def try_prepare(self, room: str, since: Since | None) -> Room | None:
        """What `prepare` would give, where nothing has to be waited for."""
        found = self._rooms.get(room)
        if found is None or not found.board.whole:
            return None
        found.idle = False
        if since is None or since.epoch != self._store.epoch or found.reaches(since.seq):
            return found
        return None

    def check_joined(self, client: Client, room: str, connid: str | None = None) -> None:
        """Raises `TooMany` when a client may not join or watch any more."""
        known = room in client.rooms if connid is None else (room, connid) in client.watched
        joined = len(client.rooms) + len(client.watched)
        if not known and joined >= self._config.max_joined:
            raise TooMany(
                f"join limit reached (MAX_JOINED={self._config.max_joined}): leave one first"
            )

    def admit(self, client: Client, room: Room, since: Since | None) -> None:
        """Let a client into a prepared room, with what it missed or a snapshot."""
        if client.gone:
            return
        name = room.board.room
        room = self._open(room)
        client.rooms.add(name)
        client.behind.pop(name, None)
        self._clients.add(client)
        self._catch_up.send_missed(client, room, since)
        if not self._reachable:
            client.send_exempt(self._availability(name))
        room.enter(client)

    def watch(self, client: Client, room: Room, connid: str, seq: int) -> None:
        """Let a client hear one job of a prepared room, from the entries after `seq` on."""
        if client.gone:
            return
        name = room.board.room
        room = self._open(room)
        room.watchers.setdefault(connid, set()).add(client)
        client.watched.add((name, connid))
        self._clients.add(client)
        if name in client.rooms:
            return
        if name in client.behind:
            client.behind[name] = min(client.behind[name], seq)
        elif not self._catch_up.send_after(client, room, seq, {connid}):
            self._catch_up.fall_behind(client, name, seq)

    def leave(self, client: Client, name: str) -> None:
        """Take a client out of a room; one that is not in it stays out."""
        room = self._rooms.get(name)
        client.rooms.discard(name)
        if not any(watched == name for watched, _ in client.watched):
            client.behind.pop(name, None)
        if room is not None:
            room.exit(client)

    def unwatch(self, client: Client, name: str, connid: str) -> None:
        """Stop hearing one job."""
        client.watched.discard((name, connid))
        room = self._rooms.get(name)
        watchers = room.watchers.get(connid) if room else None
        if room and watchers:
            watchers.discard(client)
            if not watchers:
                del room.watchers[connid]

    def forget(self, client: Client) -> None:
        """The client is gone: take it out of everything."""
        client.gone = True
        self._clients.discard(client)
        for name in list(client.rooms):
            self.leave(client, name)
        for name, connid in list(client.watched):
            self.unwatch(client, name, connid)

    async def missed(self, name: str, since: Since) -> list[Logged] | None:
        """The entries of a room after a position; None where they are no longer all kept."""
        await self._store.board(name)  # All that others have been answered by now is in it then.
        room = await self.prepare(name, since)
        if since.epoch != self._store.epoch or not room.reaches(since.seq):
            return None
        return list(room.after(since.seq))

    def follow(self, entry: Entry) -> None:
        """Send an entry of the log to whoever may hear it."""
        event = entry.event
        room = self._rooms.get(event.room)
        if room is None:
            return
        room.snapshot = None
        if isinstance(event, Killed | Finished):
            room.reported.pop(event.connid, None)
            if last := self._progress.take(event.room, event.connid):
                # Before the end: nobody takes it for a job that has ended.
                self._send_report(room, last, event.seq - 1)
        frame = Frame(event.name, entry.body)
        room.tail.append((event.seq, event.connid, frame))
        self._replay.grew(EVENT + COPIES * len(entry.body))
        self._send_all(room, frame, event.seq - 1, room.strangers(event.connid))

    def report(self, progress: Progress) -> None:
        """Send the latest progress of a job, no more often than the clients are to hear it."""
        room = self._rooms.get(progress.room)
        if room is not None:
            room.snapshot = None
            self._progress.offer(progress)

    def present(self, presence: Presence) -> None:
        """Send who is in a room to those who are in it here."""
        room = self._rooms.get(presence.room)
        if room is not None:
            self._send_all(room, Frame("presence", encode(presence)), room.board.seq)

    def printed(self, room: str, connid: str, run: str, offset: int) -> None:
        """Send what a job has printed to those who watch it."""
        self._output.offer(room, connid, run, offset)

    def show_output(self, room: str, connid: str, run: str, offset: int) -> None:
        """Send what a job has printed after so many characters to those who watch it."""
        self._output.show(room, connid, run, offset)

    def reset(self, room: str) -> None:
        """Send everyone in a room how it is now; who watches a job of it has to join again."""
        found = self._rooms.get(room)
        if found is None:
            return
        self._restart(found)
        for client in {client for watchers in found.watchers.values() for client in watchers}:
            client.drop()

    def emptied(self, room: str) -> None:
        """Send everyone in a room that it is empty; who watches a job of it has missed nothing."""
        found = self._rooms.get(room)
        if found is not None:
            self._restart(found)

    def reachable(self, reachable: bool) -> None:
        """Tell everyone whether what they see is up to date, and will be."""
        self._reachable = reachable
        for name, room in self._rooms.items():
            self._send_all(room, self._availability(name), room.board.seq)

    def _sent_snapshot(self, client: Client, name: str) -> None:
        self._rooms[name].presence_changed = True
        client.send_exempt(self._availability(name))

    def _availability(self, name: str) -> Frame:
        return Frame(Available.name, encode(Available(name, self._reachable)))

    def _restart(self, room: Room) -> None:
        """Begin with the board as it is now, and send it to everyone in the room."""
        name = room.board.room
        room.restart()
        for client in list(room.members):
            if client.above_high_watermark(self._config.max_backlog):
                self._catch_up.fall_behind(client, name, room.board.seq)
                room.unite(client)
            elif self._catch_up.send_snapshot(client, room):
                client.behind.pop(name, None)
            else:
                self._catch_up.fall_behind(client, name, room.board.seq)
                room.unite(client)

    def _open(self, room: Room) -> Room:
        """The room that is open under its name: one released meanwhile did not follow the log."""
        name = room.board.room
        if name not in self._rooms:
            self._rooms[name] = Room(room.board, self._new_group)
        return self._rooms[name]

    def _send_all(
        self, room: Room, frame: Frame, seq: int, strangers: Iterable[Client] = ()
    ) -> None:
        """Send a frame to a room and to the strangers; `seq` is what they have without it."""
        self.deliveries += len(room.members)
        for client in chain(room.others, strangers):
            self._send(client, frame, room.board.room, seq)
        # Last: whom it takes out for being slow is one of the others then, and has been sent it.
        room.group.send(frame)

    def _send(self, client: Client, frame: Frame, name: str, seq: int) -> None:
        """Send a frame of a room unless the client is too slow."""
        if name in client.behind:
            return
        if client.above_high_watermark(self._config.max_backlog):
            self._catch_up.fall_behind(client, name, seq)
        else:
            client.send(frame)

    def _send_presence(self, room: Room) -> None:
        if not room.presence_changed:
            return
        room.presence_changed = False
        names = sorted({client.name for client in room.members})[: self._config.presence_names]
        self._store.announce(Presence(room.board.room, len(room.members), names))

    def _send_progress(self, progress: Progress) -> None:
        room = self._rooms.get(progress.room)
        job = room.board.running.get(progress.connid) if room else None
        if room is None or job is None or job.run != progress.run:
            return
        # Who leaves before this moment has not heard of it, whatever its seq was when it was made.
        room.reported[progress.connid] = room.board.seq
        self._send_report(room, progress, room.board.seq)

    def _send_report(self, room: Room, progress: Progress, seq: int) -> None:
        frame = Frame("progress", encode(progress))
        self._send_all(room, frame, seq, room.strangers(progress.connid))

    def _is_watched(self, name: str, connid: str) -> bool:
        room = self._rooms.get(name)
        return room is not None and connid in room.watchers

    def _send_output(self, output: Output) -> None:
        """Send output to those who have read most of what there was; others see a gap."""
        room = self._rooms.get(output.room)
        frame = Frame("output", encode(output))
        for client in room.watchers.get(output.connid, ()) if room is not None else ():
            if client.backlog() <= self._config.max_backlog / 4:
                client.send(frame)

    def _tend_rooms(self) -> None:
        self._replay.grew(0)
        for room in self._rooms.values():
            self._send_presence(room)
            while len(room.tail) > self._config.replay:
                room.tail.popleft()
            for client in list(room.others):
                room.unite(client)
        self._release_idle()

    def _release_idle(self) -> None:
        """Release rooms that nobody was in or asked for since the last look."""
        for name, room in list(self._rooms.items()):
            if room.members or room.watchers or room.reading.locked():
                continue
            if room.idle:
                # Somebody may still hold it: without a follower its tail would get holes.
                room.tail.clear()
                del self._rooms[name]
            room.idle = True
