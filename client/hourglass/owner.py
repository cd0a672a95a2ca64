"""Keeps a job on the server while its work runs, over many connections."""

import asyncio
import contextlib
import secrets
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hourglass.errors import Away, Refused
from hourglass.output import Output
from hourglass.progress.reader import Progress
from hourglass.session import Backoff, Line, connected
from hourglass.settings import Json, Settings, clock

TICK = 0.2
"""Seconds between two looks at what there is to tell the server."""
PROGRESS_EVERY = 0.5
"""Seconds between two reports of a progress that changes."""
ASK_AGAIN = 10.0
"""Seconds before a job whose name was taken is requested again."""
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


class Owner:
    """Keeps a job on the server for as long as its command runs, over however many connections.

    Each connection joins the job, to hear of its end; requests it, or renews it and so learns
    whether it was ended meanwhile; then tells what the command prints and how far it is; and last
    how the command ended. A job that the server has lost is requested anew, with the time left.
    """

    def __init__(
        self, settings: Settings, plan: Plan, output: Output, say: Callable[[str], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._plan = plan
        self._output = output
        self._say = say
        self.admitted: Future[None] = loop.create_future()
        """Done when the job has started, or the server is away; else raises `Refused`."""
        self.ended: Future[Json] = loop.create_future()
        """How the server ended the job: somebody killed it, or its time ran out."""
        self._limit_at: float | None = None
        self._run: str | None = None
        self._last_end: Json | None = None
        # By this the server knows the request again whose answer was lost.
        self._key = secrets.token_hex(16)
        # Whether there may be one: it may have started our job.
        self._asked = False
        self._ask_again_at = 0.0
        self._over = False
        self._progress = Progress()
        self._told: tuple[Progress, float] = Progress(), 0.0
        self._takes_output = True
        self._result: Json | None = None
        self._wake = asyncio.Event()
        self._complained = ""
        self._keeping = asyncio.create_task(self._keep())

    def begin(self) -> float:
        """The command starts, whatever the server says later; when its time is over, by `clock`."""
        self._admit()
        self._limit_at = clock() + self._plan.time
        return self._limit_at

    async def report(self, result: Json, within: float) -> None:
        """Tell how the command ended, trying for as long as `within` seconds."""
        self._result = result
        self._wake.set()
        await asyncio.wait({self._keeping}, timeout=min(within, LAST_TRY))
        if self._keeping.done():
            return
        if self._run is not None or self._asked:
            await asyncio.wait({self._keeping}, timeout=within)
        if not self._keeping.done():
            self._say("the server could not be told how the command ended")

    async def close(self) -> None:
        self._keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeping

    async def _keep(self) -> None:
        backoff = Backoff(self._plan.lease)
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
            await self._pause((Backoff() if self._result else backoff).seconds())

    async def _serve(self, line: Line) -> None:
        await self._call(line, "join")
        if self._run is not None:
            await self._renew(line)
        if self._run is not None:
            self._complain("")
        while True:
            if self._run is None and clock() >= self._ask_again_at:
                await self._request(line)
            self._admit()
            await self._tell(line)
            if self._result is not None:
                await self._tell_end(line, self._result)
                return
            await self._pause(TICK)
            line.check()

    def _admit(self) -> None:
        if not self.admitted.done():
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
        left = self._plan.time if self._limit_at is None else self._limit_at - clock()
        if self._result is not None:
            left = max(left, 1.0)
        if left <= 0 or self._over:
            return
        self._asked = True
        try:
            answer = await self._call(
                line,
                "request",
                key=self._key,
                time=left,
                lease=self._plan.lease,
                note=self._plan.note,
                if_running=self._plan.if_running,
            )
        except Refused as refused:
            if not refused.unknown:
                self._asked = False
            if refused.code != "conflict":
                raise
            answer = refused.answer
        job = answer["job"]
        if answer.get("result") == "started":
            self._begin_run(job["run"])
            if job["state"] != "running":
                self._end(job)
            return
        taken = f"{self._plan.connid} is running already, started by {job['by']}"
        if not self.admitted.done():
            raise Refused.here("conflict", taken, job)
        # Too late not to run: the command goes on within its time, and waits for the name.
        self._complain(taken)
        self._asked = False
        self._ask_again_at = clock() + ASK_AGAIN

    def _begin_run(self, run: str) -> None:
        self._run = run
        self._asked = False
        self._told = Progress(), clock()
        self._complain("")
        if self._last_end is not None and self._last_end["run"] == run:
            self._end(self._last_end)

    def _forget_run(self) -> None:
        """Have the job start anew."""
        self._run = None
        self._key = secrets.token_hex(16)

    async def _tell(self, line: Line) -> None:
        """Tell what there is to tell of output and progress, and renew the lease."""
        over = self._result is not None
        self._progress = self._output.progress(final=over) or self._progress
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

    def _heard(self, name: str, event: Json) -> None:
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
        elif job["outcome"] == "lost" and self._result is None:
            self._forget_run()  # We were away for longer than the lease: start anew.
        else:
            self._over = True  # Lost as it ended, or somebody has said for it that it is done.

    async def _tell_end(self, line: Line, result: Json) -> None:
        if self._run is None or self._over:
            return
        if not self.ended.done():
            outcome = "done" if result["exit"] in (0, None) else "failed"
            try:
                await self._finish(line, outcome, result)
                return
            except Refused as refused:
                job = refused.job
                if refused.code != "not_running" or job is None or job["run"] != self._run:
                    raise
                self._end(job)  # It was killed in the same moment.
        if self.ended.done() and self.ended.result()["state"] == "killed":
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
