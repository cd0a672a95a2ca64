"""The one door behind all doors: parse a command, check who asks, do it, answer.

Whatever a client sends through Socket.IO, a plain WebSocket or HTTP comes here, and this is the
only place that turns an error into an answer. Every command gets one.
"""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import Raw

from server.access.auth import Authenticator
from server.access.rate_limits import RETRY_AFTER, Limits, TokenBucket
from server.budget import LITTLE, Budget
from server.config import Config
from server.contract.messages import (
    Answer,
    Command,
    EndedJob,
    Finish,
    Frame,
    Hello,
    History,
    Job,
    Join,
    Kill,
    Leave,
    ListRooms,
    Print,
    Refusal,
    Report,
    Request,
    RoomCount,
    Status,
    Stop,
    Via,
)
from server.contract.validation import Checker
from server.core.replies import Caller, Done, Reply, Work, broken, refusal, with_remaining
from server.core.rooms import Rooms
from server.core.subscribers import Client
from server.counters import Counts
from server.errors import CommandError, Conflict, RateLimited, TooMany, Unauthorized, UnknownRoute
from server.jobs import Jobs
from server.store.interface import Entry, Repeated, Store, Submitted

JOB = 256
"""Bytes of a running job in an answer, about."""
TIMED = 16
"""One of so many commands is timed: to time each would be felt."""

log = logging.getLogger(__name__)
MOST_ROOMS = 500
"""How many rooms one answer lists."""
ROOMS_WEIGHED = 100
"""Rooms that are as much to look through as a command, whether the answer lists them or not."""


class Commands:
    """Answers the commands of the protocol."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        rooms: Rooms,
        checker: Checker,
        limits: Limits,
        counts: Counts,
        config: Config,
        monotonic: Callable[[], float],
        budget: Budget,
    ) -> None:
        """`monotonic` is a clock for rates, in seconds."""
        self._store = store
        self._budget = budget
        self._jobs = jobs
        self._rooms = rooms
        self._checker = checker
        self._authenticator = Authenticator(
            config.secrets, config.max_token, config.token_leeway, store.clock.wall
        )
        self._limits = limits
        self._counts = counts
        self._now = store.now
        self._monotonic = monotonic
        self._begun = 0
        self._handlers: dict[type[Command], Callable[[Caller, Any], Work]] = {
            Request: self._request,
            Kill: self._kill,
            Status: self._status,
            Finish: self._finish,
            Report: self._progress,
            Stop: self._stopped,
            Print: self._output,
            Join: self._join,
            Leave: self._leave,
            History: self._history,
            ListRooms: self._list_rooms,
        }

    def refuse(self, bucket: TokenBucket, error: CommandError) -> Reply:
        """The answer to what is no command at all, which counts as one."""
        try:
            bucket.take(self._monotonic())
        except RateLimited as limited:
            return self._refused(limited)
        return self._refused(error)

    def parse(self, caller: Caller, name: str | None, payload: Any) -> Command:
        """The command `name`, or that in the payload's `route`, if this caller may give it now.

        Raises `CommandError`.
        """
        try:
            caller.bucket.take(self._monotonic())
            command = self._checker.command(name, payload)
            caller.identity.check(command.name, command.room)
        except CommandError as error:
            self._refused(error)
            raise
        except Exception:
            log.exception("a command could not be parsed")
            raise broken() from None
        return command

    def parse_json(self, caller: Caller, event: str) -> Command | None:
        """The command in an event as JSON, decoded in one step. None when that does not work and
        `parse` has to say what is wrong. Raises `CommandError`, as `parse` does.
        """
        command = self._checker.event(event)
        if command is not None:
            try:
                caller.bucket.take(self._monotonic())
                caller.identity.check(command.name, command.room)
            except CommandError as error:
                self._refused(error)
                raise
        return command

    async def answer(self, caller: Caller, name: str | None, payload: Any) -> Reply:
        """Parse a command and carry it out. Never raises."""
        try:
            command = self.parse(caller, name, payload)
        except CommandError as error:
            return Reply(refusal(error))
        began = self.began()
        try:
            work = self.begin(caller, command)
            if isinstance(work, Submitted):
                work = self.changed(caller, work)
            return self.reply(await work)
        except Exception as error:
            return self.reply(error)
        finally:
            self.answered(began)

    def begin(self, caller: Caller, command: Command) -> Work:
        """Begin to carry out a command that was parsed.

        What comes of a coroutine is told by `reply`, and of a change by `changed`, or by `made`
        where it is known that the store has not refused it.
        """
        self._counts.commands[command.name] += 1
        return self._handlers[type(command)](caller, command)

    def began(self) -> float | None:
        """When a command begins, now, for `answered`; None where it is not one that is timed."""
        self._begun += 1
        return None if self._begun % TIMED else self._monotonic()

    def answered(self, began: float | None) -> None:
        """A command that began then has its answer."""
        if began is not None:
            self._counts.command_time.observe(self._monotonic() - began)

    async def changed(self, caller: Caller, change: Submitted) -> Entry:
        """The entry that a change has made. Raises `CommandError` where it was refused."""
        return (await self._jobs.outcome(change))[-1]

    def made(self, caller: Caller, change: Submitted) -> Reply:
        """The answer to a change that is durable."""
        return Reply(self._told(change.result()[-1]))

    def reply(self, done: Done | BaseException) -> Reply:
        """The answer to a command that has come to this, or has failed so."""
        if isinstance(done, Entry):
            return Reply(self._told(done))
        if isinstance(done, Reply):
            return done
        if isinstance(done, Answer):
            return Reply(done)
        if isinstance(done, CommandError):
            return self._refused(done)
        log.error("a command failed", exc_info=done)
        return self._refused(broken())

    def welcome(
        self, hello: Hello, via: Via, address: str, bucket: TokenBucket | None = None
    ) -> Caller:
        """Who a client is that comes through the door `via`, unless it says to be another one.

        Its rate is that of `bucket`, or of a new one.
        Raises `Unauthorized`, `Forbidden`, and `RateLimited` when too many failed from the address:
        only those who fail, so that nobody can lock out their neighbours.
        """
        try:
            identity = self._authenticator.identify(hello.token, hello.name)
        except Unauthorized as error:
            self._refused(error)
            self._limits.failed(address)
            if self._limits.may_log():
                log.warning("%s was not let in through %s: %s", address, via, error.message)
            raise
        try:
            for room in hello.rooms:
                identity.check("join", room)
        except CommandError as error:
            self._refused(error)
            raise
        bucket = bucket or self._limits.bucket(address)
        return Caller(identity, hello.via or via, bucket, address=address)

    def admit_at_once(self, caller: Caller, hello: Hello) -> bool:
        """`admit` a client without waiting; false where its rooms are not all at hand."""
        assert caller.client is not None, "an HTTP request is in no room"
        ready = []
        for name in hello.rooms:
            since = hello.since.get(name)
            room = self._rooms.try_prepare(name, since)
            if room is None:
                return False
            ready.append((room, since))
        for room, since in ready:
            self._rooms.admit(caller.client, room, since)
        return True

    async def admit(self, caller: Caller, hello: Hello) -> None:
        """Let a client that has been welcomed, and can hear events by now, into its rooms.

        Raises `CommandError`, and nothing else: it has to be told why it sees nothing.
        """
        assert caller.client is not None, "an HTTP request is in no room"
        try:
            for name in hello.rooms:
                since = hello.since.get(name)
                room = await self._rooms.prepare(name, since)
                self._rooms.admit(caller.client, room, since)
        except CommandError:
            raise
        except Exception:
            log.exception("a client could not be let into its rooms")
            raise broken() from None

    def _request(self, caller: Caller, command: Request) -> Work:
        if command.key is not None:
            return self._kept(command, self._once(caller, command, command.key))
        if command.if_running == "keep":
            return self._kept(command, self.changed(caller, self._start(caller, command)))
        return self._start(caller, command)

    async def _kept(self, command: Request, start: Coroutine[Any, Any, Done]) -> Done:
        """What has come of a start, where the job that is running may be kept."""
        try:
            return await start
        except Conflict as conflict:
            if command.if_running != "keep" or conflict.job is None:
                raise
            return await self._answer_now("exists", command.room, conflict.job)

    async def _once(self, caller: Caller, command: Request, key: str) -> Done:
        try:
            return await self._jobs.start_once(
                command.room,
                command.connid,
                command.time,
                caller.actor,
                key=key,
                note=command.note,
                lease=command.lease,
                replace=command.if_running == "replace",
            )
        except Repeated as repeated:
            answer = await self._answer_now("started", command.room, repeated.job)
            answer.repeated = True
            return answer

    def _start(self, caller: Caller, command: Request) -> Submitted:
        return self._jobs.start(
            command.room,
            command.connid,
            command.time,
            caller.actor,
            note=command.note,
            lease=command.lease,
            replace=command.if_running == "replace",
        )

    def _kill(self, caller: Caller, command: Kill) -> Submitted:
        return self._jobs.kill(
            command.room, command.connid, caller.actor, run=command.run, reason=command.reason
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

    async def _progress(self, caller: Caller, command: Report) -> Answer:
        report = self._jobs.progress(
            command.room,
            command.connid,
            command.run,
            command.done,
            command.note,
            caller.actor,
        )
        await self._jobs.outcome(report)
        return await self._answer_now("ok", command.room)

    async def _stopped(self, caller: Caller, command: Stop) -> Answer:
        job = await self._jobs.stopped(
            command.room, command.connid, command.run, command.exit, caller.actor
        )
        return await self._answer_now("ok", command.room, job)

    async def _output(self, caller: Caller, command: Print) -> Answer:
        await self._jobs.print(
            command.room, command.connid, command.run, command.text, caller.actor
        )
        return await self._answer_now("ok", command.room)

    async def _status(self, caller: Caller, command: Status) -> Answer:
        if command.since is not None:
            missed = await self._rooms.missed(command.room, command.since)
            if missed is not None:
                self._check_room(sum(len(frame.body) for _, _, frame in missed))
                answer = await self._answer_now("status", command.room)
                answer.now = self._now()
                answer.events = [
                    Raw(frame.plain())
                    for _, connid, frame in missed
                    if command.connid in (None, connid)
                ]
                return answer
        if command.connid is None:
            jobs = list((await self._store.board(command.room)).running.values())
            self._check_room(sum(JOB + len(job.note or "") for job in jobs))
        else:
            jobs = [await self._jobs.running(command.room, command.connid)]
        answer = await self._answer_now("status", command.room)
        answer.now = self._now()
        answer.jobs = [with_remaining(job, answer.now) for job in jobs]
        return answer

    async def _join(self, caller: Caller, command: Join) -> Reply:
        client = self._hearing(caller)
        self._rooms.check_joined(client, command.room, command.connid)
        if command.connid is not None:
            return await self._watch(client, command.room, command.connid)
        room = await self._rooms.prepare(command.room, command.since)
        answer = self._answer("joined", command.room, room.board.seq)
        answer.now = self._now()
        return Reply(answer, lambda: self._rooms.admit(client, room, command.since))

    async def _watch(self, client: Client, name: str, connid: str) -> Reply:
        room = await self._rooms.prepare(name, None)
        seq = room.board.seq
        answer = self._answer("joined", name, seq)
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

    async def _leave(self, caller: Caller, command: Leave) -> Answer:
        client = self._hearing(caller)
        if command.connid is None:
            self._rooms.leave(client, command.room)
        else:
            self._rooms.unwatch(client, command.room, command.connid)
        return await self._answer_now("left", command.room)

    async def _history(self, caller: Caller, command: History) -> Answer:
        jobs = await self._store.history(
            command.room, command.connid, command.before, command.limit
        )
        answer = await self._answer_now("history", command.room)
        answer.jobs = jobs
        answer.before = jobs[-1].seq if len(jobs) == command.limit else None
        return answer

    async def _list_rooms(self, caller: Caller, command: ListRooms) -> Answer:
        counts = (await self._store.counts()).items()
        caller.bucket.charge(len(counts) // ROOMS_WEIGHED)
        rooms = [RoomCount(room, number) for room, number in counts if caller.identity.opens(room)]
        answer = await self._answer_now("rooms", command.room)
        answer.rooms = sorted(rooms, key=lambda count: (-count.running, count.room))[:MOST_ROOMS]
        return answer

    def refuse_again(self, reply: Reply) -> Reply:
        """The refusal of one more command in the same words."""
        assert isinstance(reply.message, Refusal)
        self._counts.refusals[reply.message.error.code] += 1
        return reply

    def _refused(self, error: CommandError) -> Reply:
        self._counts.refusals[error.code] += 1
        return Reply(refusal(error))

    def _hearing(self, caller: Caller) -> Client:
        if caller.client is None:
            raise UnknownRoute("only a client that hears events can join or leave a room")
        return caller.client

    def _told(self, entry: Entry) -> Answer:
        """The answer that tells what a change has made."""
        event = entry.event
        return self._answer(event.name, event.room, event.seq, entry.job)

    def _check_room(self, size: int) -> None:
        """Raises `TooMany` where there is no memory for an answer of about so many bytes."""
        if size > LITTLE and not self._budget.has_room(size):
            raise TooMany(
                "the server holds as much for its clients as MEMORY_BUDGET allows: try again",
                retry_after=RETRY_AFTER,
            )

    async def _answer_now(
        self, result: str, room: str, job: Job | EndedJob | None = None
    ) -> Answer:
        return self._answer(result, room, await self._store.seq(room), job)

    def _answer(
        self, result: str, room: str, seq: int, job: Job | EndedJob | Raw | None = None
    ) -> Answer:
        return Answer(ok=True, result=result, room=room, epoch=self._store.epoch, seq=seq, job=job)
