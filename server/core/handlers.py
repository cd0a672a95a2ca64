"""What each command does, and whether it reads or writes.

A handler raises `CommandError` where its command has to be refused.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import Raw, Struct

from server.access.rate_limits import RETRY_AFTER
from server.budget import LITTLE, Budget
from server.contract.messages import (
    Answer,
    Command,
    EndedJob,
    Extend,
    Finish,
    Frame,
    History,
    Job,
    Join,
    Kill,
    Leave,
    ListRooms,
    Print,
    Report,
    Request,
    RoomCount,
    Status,
    Stop,
)
from server.core.replies import Caller, Reply, with_remaining
from server.core.rooms import Rooms
from server.core.subscribers import Client
from server.errors import Conflict, TooMany, UnknownRoute
from server.jobs import Jobs
from server.store.interface import Entry, Repeated, Store, Submitted

JOB = 256
"""Estimated bytes of a running job in an answer."""
MOST_ROOMS = 500
"""How many rooms one answer lists."""
ROOMS_WEIGHED = 100
"""Rooms that cost as much to look through as a command, whether the answer lists them or not."""


class Handler(Struct, frozen=True):
    """How a command is executed: by `submit`, or else by `run`."""

    writes: bool
    """Whether the store decides it as soon as it begins. Consecutive writes of a client share a
    commit. Any other command reads: it waits until the writes before it are durable, and the next
    command waits for it."""
    submit: Callable[[Caller, Any], Submitted] | None = None
    """Submits the one change that the command is; the last entry that it makes is the answer."""
    run: Callable[[Caller, Any], Coroutine[Any, Any, Reply]] | None = None
    """Executes the command in several steps."""


class Handlers:
    """The handlers of all commands."""

    def __init__(self, store: Store, jobs: Jobs, rooms: Rooms, budget: Budget) -> None:
        self._store = store
        self._jobs = jobs
        self._rooms = rooms
        self._budget = budget
        self._now = store.now
        self._by_type: dict[type[Command], Handler] = {
            Request: Handler(writes=True, submit=self._start),
            Kill: Handler(writes=True, submit=self._kill),
            Extend: Handler(writes=True, submit=self._extend),
            Finish: Handler(writes=True, submit=self._finish),
            Report: Handler(writes=True, run=self._progress),
            Print: Handler(writes=True, run=self._output),
            # It looks for an end that may not be durable yet.
            Stop: Handler(writes=False, run=self._stopped),
            Status: Handler(writes=False, run=self._status),
            Join: Handler(writes=False, run=self._join),
            Leave: Handler(writes=False, run=self._leave),
            History: Handler(writes=False, run=self._history),
            ListRooms: Handler(writes=False, run=self._list_rooms),
        }
        self._keep = Handler(writes=True, run=self._start_or_keep)
        # It looks for what the key has started before.
        self._keyed = Handler(writes=False, run=self._start_once)

    def of(self, command: Command) -> Handler:
        """The handler of a command."""
        if type(command) is Request:
            if command.key is not None:
                return self._keyed
            if command.if_running == "keep":
                return self._keep
        return self._by_type[type(command)]

    def told(self, entry: Entry) -> Answer:
        """The answer that tells which entry of the log a command has made."""
        event = entry.event
        return Answer(
            ok=True,
            result=event.name,
            room=event.room,
            epoch=self._store.epoch,
            seq=event.seq,
            job=entry.job,
        )

    async def outcome(self, change: Submitted) -> Reply:
        """The answer to a change, once it is durable. Raises `CommandError` where it was
        refused."""
        entries = await self._jobs.outcome(change)
        return Reply(self.told(entries[-1]))

    # What writes.

    def _start(self, caller: Caller, command: Request) -> Submitted:
        return self._jobs.start(
            command.room,
            command.connid,
            command.time,
            caller.actor,
            note=command.note,
            lease=command.lease,
            stoppable=command.stoppable,
            replace=command.if_running == "replace",
        )

    async def _start_or_keep(self, caller: Caller, command: Request) -> Reply:
        try:
            return await self.outcome(self._start(caller, command))
        except Conflict as conflict:
            return await self._kept(command, conflict)

    async def _start_once(self, caller: Caller, command: Request) -> Reply:
        assert command.key is not None, "any other request is started by `_start`"
        try:
            entry = await self._jobs.start_once(
                command.room,
                command.connid,
                command.time,
                caller.actor,
                key=command.key,
                note=command.note,
                lease=command.lease,
                stoppable=command.stoppable,
                replace=command.if_running == "replace",
            )
        except Repeated as repeated:
            answer = await self._answer("started", command.room, repeated.job)
            answer.repeated = True
            return Reply(answer)
        except Conflict as conflict:
            return await self._kept(command, conflict)
        return Reply(self.told(entry))

    async def _kept(self, command: Request, conflict: Conflict) -> Reply:
        """The answer with the job that stays. Raises the conflict where none is to."""
        if command.if_running != "keep" or conflict.job is None:
            raise conflict
        return Reply(await self._answer("exists", command.room, conflict.job))

    def _kill(self, caller: Caller, command: Kill) -> Submitted:
        return self._jobs.kill(
            command.room, command.connid, caller.actor, run=command.run, reason=command.reason
        )

    def _extend(self, caller: Caller, command: Extend) -> Submitted:
        return self._jobs.extend(
            command.room,
            command.connid,
            command.time,
            caller.actor,
            run=command.run,
            deadline=command.deadline,
        )

    def _finish(self, caller: Caller, command: Finish) -> Submitted:
        return self._jobs.finish(
            command.room,
            command.connid,
            command.run,
            command.outcome,
            command.result,
            caller.actor,
        )

    async def _progress(self, caller: Caller, command: Report) -> Reply:
        report = self._jobs.progress(
            command.room,
            command.connid,
            command.run,
            command.done,
            command.note,
            caller.actor,
        )
        await self._jobs.outcome(report)
        return Reply(await self._answer("ok", command.room))

    async def _output(self, caller: Caller, command: Print) -> Reply:
        await self._jobs.print(
            command.room, command.connid, command.run, command.text, caller.actor
        )
        return Reply(await self._answer("ok", command.room))

    async def _stopped(self, caller: Caller, command: Stop) -> Reply:
        job = await self._jobs.stopped(
            command.room, command.connid, command.run, command.exit, caller.actor
        )
        return Reply(await self._answer("ok", command.room, job))

    # What reads.

    async def _status(self, caller: Caller, command: Status) -> Reply:
        if command.since is not None:
            missed = await self._rooms.missed(command.room, command.since)
            if missed is not None:
                self._check_memory(sum(len(frame.body) for _, _, frame in missed))
                answer = await self._answer("status", command.room)
                answer.now = self._now()
                answer.events = [
                    Raw(frame.plain())
                    for _, connid, frame in missed
                    if command.connid in (None, connid)
                ]
                return Reply(answer)
        if command.connid is None:
            jobs = list((await self._store.board(command.room)).running.values())
            self._check_memory(sum(JOB + len(job.note or "") for job in jobs))
        else:
            jobs = [await self._jobs.running(command.room, command.connid)]
        answer = await self._answer("status", command.room)
        answer.now = self._now()
        answer.jobs = [with_remaining(job, answer.now) for job in jobs]
        return Reply(answer)

    async def _history(self, caller: Caller, command: History) -> Reply:
        jobs = await self._store.history(
            command.room, command.connid, command.before, command.limit
        )
        answer = await self._answer("history", command.room)
        answer.jobs = jobs
        answer.before = jobs[-1].seq if len(jobs) == command.limit else None
        return Reply(answer)

    async def _list_rooms(self, caller: Caller, command: ListRooms) -> Reply:
        counts = (await self._store.counts()).items()
        caller.bucket.charge(len(counts) // ROOMS_WEIGHED)
        rooms = [RoomCount(room, number) for room, number in counts if caller.identity.opens(room)]
        answer = await self._answer("rooms", command.room)
        answer.rooms = sorted(rooms, key=lambda count: (-count.running, count.room))[:MOST_ROOMS]
        return Reply(answer)

    # What changes what a client hears.

    async def _join(self, caller: Caller, command: Join) -> Reply:
        client = subscriber(caller)
        self._rooms.check_joined(client, command.room, command.connid)
        if command.connid is not None:
            return await self._watch(client, command.room, command.connid)
        room = await self._rooms.prepare(command.room, command.since)
        answer = self._answer_at(room.board.seq, "joined", command.room)
        answer.now = self._now()
        return Reply(answer, lambda: self._rooms.admit(client, room, command.since))

    async def _watch(self, client: Client, name: str, connid: str) -> Reply:
        room = await self._rooms.prepare(name, None)
        seq = room.board.seq
        answer = self._answer_at(seq, "joined", name)
        answer.now = self._now()
        answer.job = job = await self._jobs.find(name, connid)
        if job is not None:
            entries = await self._store.read_run(name, connid, job.run)
            frames = [Frame(entry.event.name, entry.body) for entry in entries]
            answer.events = [Raw(frame.plain()) for frame in frames]
            seq = max([seq, *(entry.event.seq for entry in entries)])
            answer.output = await self._store.printed(name, job.run)

        def then() -> None:
            self._rooms.watch(client, room, connid, seq)
            if job is not None and answer.output is not None:
                # Something may have been printed between that reading and now.
                end = answer.output.offset + len(answer.output.text)
                self._rooms.show_output(name, connid, job.run, end)

        return Reply(answer, then)

    async def _leave(self, caller: Caller, command: Leave) -> Reply:
        client = subscriber(caller)
        if command.connid is None:
            self._rooms.leave(client, command.room)
        else:
            self._rooms.unwatch(client, command.room, command.connid)
        return Reply(await self._answer("left", command.room))

    def _check_memory(self, size: int) -> None:
        """Raises `TooMany` where there is no memory for an answer of about `size` bytes."""
        if size > LITTLE and not self._budget.admits(size):
            raise TooMany(
                f"no memory for so large an answer (MEMORY_BUDGET={self._budget.total}): try again"
                f" in {RETRY_AFTER:g} s",
                retry_after=RETRY_AFTER,
            )

    async def _answer(self, result: str, room: str, job: Job | EndedJob | None = None) -> Answer:
        return self._answer_at(await self._store.seq(room), result, room, job)

    def _answer_at(
        self, seq: int, result: str, room: str, job: Job | EndedJob | None = None
    ) -> Answer:
        return Answer(ok=True, result=result, room=room, epoch=self._store.epoch, seq=seq, job=job)


def subscriber(caller: Caller) -> Client:
    """The client behind a caller. Raises `UnknownRoute` where it cannot hear events."""
    if caller.client is None:
        raise UnknownRoute(
            "only a client that receives events can join or leave: use Socket.IO or /ws"
        )
    return caller.client
