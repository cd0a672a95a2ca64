"""Keeps a job on the server while its work runs, over many connections."""

import asyncio
import contextlib
import secrets
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hourglass.errors import Away, Refused
from hourglass.output import Output
from hourglass.predecessor import Predecessor
from hourglass.progress.reader import LONGEST_NOTE, Progress
from hourglass.session import Backoff, Line, connected
from hourglass.settings import Json, Settings, clock

TICK = 0.2
"""Seconds between two looks at what there is to tell the server."""
PROGRESS_EVERY = 0.5
"""Seconds between two reports of a progress that changes."""
ASK_AGAIN = 10.0
"""Seconds before a job whose name was taken is requested again."""
END_LEASE = 4.0
"""Seconds that stand for a lease when the command has ended: somebody may wait for us."""
LAST_TRY = 1.0
"""Seconds to reach an absent server at the end, for a job that it knows nothing of."""


@dataclass(frozen=True)
class Plan:
    """The job to be started; times in seconds, `lease` None for none."""

    connid: str
    time: float
    lease: float | None = None
    note: str | None = None
    if_running: str = "reject"
    grace: float = 0.0
    """How long to wait for a run that is replaced to stop."""


class Owner:
    """Keeps a job on the server for as long as its command runs, over however many connections.

    Each connection joins the job, to hear of its end; requests it, or renews it and so learns
    whether it was ended meanwhile; then tells what the command prints and how far it is; and last
    how the command ended. A job that the server has lost is requested anew, with the time left.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        output: Output,
        say: Callable[[str], None],
        *,
        run: str | None = None,
        key: str | None = None,
        remember: Callable[..., None] = lambda **facts: None,
    ) -> None:
        """Whoever goes on for another owner is given its `run`, or the `key` of its request, which
        it was told to `remember`."""
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._plan = plan
        self._output = output
        self._say = say
        self.admitted: Future[None] = loop.create_future()
        """Done when the job has started, or the server is away; else raises `Refused`."""
        self.ended: Future[Json] = loop.create_future()
        """How the server ended the job: somebody killed it, or its time ran out."""
        self.time = plan.time
        """Seconds that the job may run in all, as far as we have heard."""
        self._begun_at: float | None = None
        # When the server ends the run, by its clock.
        self._deadline: float | None = None
        self._predecessor = Predecessor(plan.grace)
        self._joined: Json = {}
        self._joined_at = 0.0
        self._run = run
        self._last_end: Json | None = None
        # By this the server knows the request again whose answer was lost.
        self._key = key or secrets.token_hex(16)
        # Whether there may be one: it may have started our job.
        self._asked = key is not None
        self._remember = remember
        self._ask_again_at = 0.0
        self._over = False
        self._progress = Progress()
        self._note: str | None = None
        self._told: tuple[Progress, float] = Progress(), 0.0
        self._takes_output = True
        self._result: Json | None = None
        self._wake = asyncio.Event()
        self._complained = ""
        self._keeping = asyncio.create_task(self._keep())

    def begin(self) -> None:
        """The command starts, whatever the server says later."""
        if not self.admitted.done():
            self.admitted.set_result(None)
        self._begun_at = clock()

    @property
    def limit_at(self) -> float:
        """When the time of the command is over, by `clock`: later when it is given more."""
        assert self._begun_at is not None
        return self._begun_at + self.time

    @property
    def replacing(self) -> bool:
        """Whether the job has started, but the run that it replaces may still be at work."""
        return self._run is not None and self._predecessor.stopping

    async def report(self, result: Json, within: float) -> bool:
        """Tell how the command ended, trying for as long as `within` seconds; whether it is told,
        or of no use to be told later."""
        self._result = result
        self._wake.set()
        await asyncio.wait({self._keeping}, timeout=min(within, LAST_TRY))
        known = self._run is not None or self._asked
        if known and not self._keeping.done():
            await asyncio.wait({self._keeping}, timeout=within)
        if not self._keeping.done():
            self._say("the server could not be told how the command ended")
        return self._keeping.done() or not known

    def note(self, text: str) -> None:
        """Tell everyone about the work, in place of what its progress says."""
        self._note = text
        self._output.add(f"hourglass: {text}\n")

    async def close(self) -> None:
        self._keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeping

    async def _keep(self) -> None:
        backoff, at_the_end = Backoff(self._plan.lease), Backoff(END_LEASE)
        while True:
            try:
                async with connected(self._settings, self._heard) as line:
                    backoff.up()
                    await self._serve(line)
                    return
            except (Away, Refused) as problem:
                if (
                    not self.admitted.done()
                    and isinstance(problem, Refused)
                    and not problem.passing
                ):
                    self.admitted.set_exception(problem)
                    return
                self._complain(str(problem))
            except Exception as error:  # Whatever is wrong with the server, the command goes on.
                self._complain(f"the server is not understood: {error!r}")
            self._admit()
            await self._pause((at_the_end if self._result else backoff).seconds())

    async def _serve(self, line: Line) -> None:
        self._joined, self._joined_at = await self._call(line, "join"), clock()
        self._predecessor.joined(self._joined, self._key)
        self._learn_deadline(self._joined.get("job") or {})
        if self._run is not None:
            await self._renew(line)
        if self._run is not None:
            self._complain("")
        while True:
            if self._run is None and clock() >= self._ask_again_at:
                await self._request(line)
            self._admit()
            result = self._result  # One that comes while we tell is told with what was read last.
            await self._tell(line, over=result is not None)
            if result is not None:
                await self._tell_end(line, result)
                return
            await self._pause(TICK)
            line.check()

    def _admit(self) -> None:
        if not self.admitted.done() and not self.replacing:
            self.admitted.set_result(None)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _request(self, line: Line) -> None:
        """Start the job, with the time that is left to the command.

        One that has ended without the server is started all the same, to be seen in the history.
        """
        left = self.time if self._begun_at is None else self.limit_at - clock()
        if self._result is not None:
            left = max(left, 1.0)
        if left <= 0 or self._over:
            return
        try:
            answer = await self._ask(line, left)
        except Refused as refused:
            if refused.code != "conflict":
                raise
            answer = refused.answer
        job = answer["job"]
        if answer.get("result") == "started":
            if self._plan.if_running == "replace" and not answer.get("repeated"):
                self._predecessor.replaced()
            self._begin_run(job)
            if job["state"] != "running":
                self._end(job)
            return
        taken = f"{self._plan.connid} is running already, started by {job['by']}"
        if not self.admitted.done():
            raise Refused.here("conflict", taken, job)
        if self._plan.if_running == "replace" and self._is_older(job):
            await self._replace(line, job)
            return
        # Too late not to run: the command goes on within its time, and waits for the name.
        self._complain(taken)
        self._asked = False
        self._ask_again_at = clock() + ASK_AGAIN

    async def _ask(self, line: Line, time: float) -> Json:
        self._asked = True
        self._remember(key=self._key)
        # Who comes late has no say in what has started meanwhile.
        if_running = self._plan.if_running if self._begun_at is None else "reject"
        try:
            return await self._call(
                line,
                "request",
                key=self._key,
                time=time,
                lease=self._plan.lease,
                note=self._plan.note,
                if_running=if_running,
                stoppable="yes",
            )
        except Refused as refused:
            if not refused.unknown:
                self._asked = False
                self._remember(key=None)
            raise

    def _is_older(self, job: Json) -> bool:
        """Whether a running job has started before our command."""
        assert self._begun_at is not None
        now = self._joined["now"] + clock() - self._joined_at
        return bool(now - job["started_at"] > clock() - self._begun_at)

    async def _replace(self, line: Line, job: Json) -> None:
        """Kill a run that our command was to replace, but no other; then the name is asked for."""
        try:
            await self._call(line, "kill", run=job["run"], reason="replaced")
        except Refused as refused:
            if refused.code != "not_running":
                raise

    def _begin_run(self, job: Json) -> None:
        self._run = run = job["run"]
        self._deadline = job["deadline"]
        self._asked = False
        self._remember(run=run)
        self._told = Progress(), clock()
        self._complain("")
        if self._last_end is not None and self._last_end["run"] == run:
            self._end(self._last_end)

    def _forget_run(self) -> None:
        """Have the job start anew."""
        self._run = None
        self._key = secrets.token_hex(16)
        self._remember(run=None, key=None)

    async def _tell(self, line: Line, *, over: bool) -> None:
        """Tell what there is to tell of output and progress, and renew the lease; when it is `over`
        all of it."""
        self._progress = self._output.progress(final=over) or self._progress
        if self._note is not None:
            self._progress = replace(self._progress, note=self._note[:LONGEST_NOTE])
        if self._run is None or self._over:
            return
        if self._takes_output and (text := self._output.take()):
            try:
                await self._call(line, "output", run=self._run, text=text)
            except Refused as refused:
                if refused.passing:
                    raise
                self._takes_output = refused.code == "not_running"
        if self._run is not None and not self.ended.done():
            told, told_at = self._told
            lease = self._plan.lease
            due = lease is not None and clock() >= told_at + lease / 3 and not over
            may_tell = over or clock() >= told_at + PROGRESS_EVERY
            if due or (told != self._progress and may_tell):
                await self._renew(line)

    async def _renew(self, line: Line) -> None:
        """Tell the latest progress, which renews the lease; or learn that the job has ended."""
        progress = self._progress
        try:
            await self._call(
                line, "progress", run=self._run, done=progress.done, note=progress.note
            )
        except Refused as refused:
            if refused.code != "not_running":
                raise
            job = refused.job
            if job is not None and job["run"] == self._run:
                self._end(job)
            else:
                self._forget_run()  # The server has lost its jobs, or forgotten ours: start anew.
        self._told = progress, clock()

    def _learn_deadline(self, job: Json) -> None:
        """Take over the deadline of a job or an event, where it is our run's and was moved."""
        if job.get("run") == self._run and "deadline" in job:
            if self._deadline is not None:
                self.time += job["deadline"] - self._deadline
            self._deadline = job["deadline"]

    def _heard(self, name: str, event: Json) -> None:
        self._predecessor.heard(name, event, self._key)
        if name == "extended":
            self._learn_deadline(event)
        if name == "stopped":
            self._wake.set()
        if name in ("killed", "finished") and event["connid"] == self._plan.connid:
            self._last_end = {**event, "state": name}
            if event["run"] == self._run:
                self._end(self._last_end)

    def _end(self, job: Json) -> None:
        """The server has ended the run."""
        if self._over or self.ended.done():
            return
        if job["state"] == "killed" or job["outcome"] == "elapsed":
            self.ended.set_result(job)
        elif job["outcome"] != "lost":
            self._over = True  # Somebody has said for it that it is done.
        elif self._result is None:
            self._forget_run()  # We were away for longer than the lease: start anew.

    async def _tell_end(self, line: Line, result: Json) -> None:
        if self._run is None or self._over:
            return
        if not self.ended.done():
            outcome = "done" if result["exit"] in (0, None) else "failed"
            try:
                # Of a run that was lost meanwhile, this amends the record.
                await self._finish(line, outcome, result)
                return
            except Refused as refused:
                job = refused.job
                if refused.code != "not_running" or job is None or job["run"] != self._run:
                    raise
                self._end(job)  # It was killed, or its time ran out, in the same moment.
        if self.ended.done():
            with contextlib.suppress(Refused):  # Some servers take it for killed jobs alone.
                await self._call(line, "stopped", run=self._run, exit=result["exit"])

    async def _finish(self, line: Line, outcome: str, result: Json) -> None:
        try:
            await self._call(line, "finish", run=self._run, outcome=outcome, result=result)
        except Refused as refused:
            if refused.code != "invalid":
                raise
            # The server takes less than usual.
            bare = {"exit": result["exit"]}
            await self._call(line, "finish", run=self._run, outcome=outcome, result=bare)

    async def _call(self, line: Line, command: str, **fields: Any) -> Json:
        names = {"room": self._settings.room, "connid": self._plan.connid}
        return await line.call(command, **names, **fields)

    def _complain(self, problem: str) -> None:
        """Say what is wrong, once until it is another thing; nothing is wrong when empty."""
        if problem and problem != self._complained:
            self._say(f"{problem}; the command runs on, within its time")
        elif self._complained and not problem:
            self._say("the job is on the server")
        self._complained = problem
