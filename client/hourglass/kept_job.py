"""A job of a program, kept on the server from its start to the end of all that it has started."""

import asyncio
import contextlib
import secrets
import sys
from asyncio import Event
from collections.abc import Callable
from typing import Any

from hourglass.aio import timeout
from hourglass.descendants import Descendants
from hourglass.errors import Away, Refused
from hourglass.formatting import killing
from hourglass.link import Link, Listener
from hourglass.naming import fitting
from hourglass.native import clock
from hourglass.session import Line
from hourglass.settings import Json

PROGRESS_EVERY = 0.5
"""Seconds between two reports of a progress that changes."""
WATCH_AFTER = 0.2
"""Seconds after its start from which on a job is watched; a kill before is seen then."""
ASK_AGAIN = 10.0
"""Seconds until what was refused for a reason that may pass is tried again."""
SOON = 0.5
GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL, for the processes of a job that was killed."""
DIED = {"error": "the process ended without a word"}


class KeptJob:
    """One run of a job: what the program tells of it, and what the server does."""

    def __init__(self, link: Link, program: int, start: Json, tell: Callable[..., None]) -> None:
        """`start` is what the program says of it, and `tell` says something to the program."""
        self._link = link
        self._listener = Listener(self._end, self._learn_deadline)
        self._tell = tell
        self._wanted = fitting(start["connid"])
        self._lease: float | None = start["lease"]
        self._note: str | None = start["note"]
        self._stoppable: str = start["stoppable"]
        self._replace: bool = start["replace"]
        self._limit_at = clock() + start["left"]
        self._deadline: float | None = None
        """When the server ends the run, by its clock."""
        self._program = program
        self._thread: int | None = start["thread"]
        self._began: float = start["began"]
        self._run: str | None = start["run"]
        self._connid: str | None = start["name"]
        self._key: str = start["key"]
        """By it the server knows the request again whose answer was lost, with whoever asked."""
        self._asked = False
        self._taken = 0
        self._progress: tuple[float | None, str | None] = None, None
        self._told: tuple[tuple[float | None, str | None], float] = self._progress, clock()
        self._ended: Json | None = None
        """How the server ended it: somebody killed it, or its time ran out."""
        self._result: Json | None = None
        """How the program ended it."""
        self._over = False
        self._wake = Event()
        self._descendants: Descendants | None = None
        self._interrupting: asyncio.Task[None] | None = None
        self.shared = False
        """Whether other jobs have run in the program at the same time."""

    @property
    def unknown(self) -> bool:
        """Whether it has ended before the server could hear of it."""
        return self._result is not None and self._run is None and not self._asked

    def report(self, done: float | None, note: str | None) -> None:
        self._progress = done, note
        self._wake.set()

    def interrupt(self) -> None:
        """End what it has started, whatever becomes of the program."""
        if self._interrupting is None and sys.platform == "linux":
            if self.shared and self._thread is None:
                return  # Nothing tells whose the processes are.
            thread = self._thread if self.shared else None
            found = Descendants(self._program, thread, self._began)
            self._interrupting = asyncio.get_running_loop().create_task(found.end(GRACE))

    def leave(self, outcome: str, result: Any) -> None:
        """The program has left its scope."""
        self._link.finish(self._connid or "")
        self._result = {"outcome": outcome, "result": result}
        self._wake.set()

    def lose_program(self) -> None:
        """The program is gone."""
        if self._result is None:
            self.leave("interrupted" if self._ended is not None else "failed", DIED)

    async def keep(self) -> None:
        """Keep it until it is over, over however many connections."""
        try:
            with self._link.used():
                while not self._over:
                    line = await self._link.line()
                    try:
                        await self._serve(line)
                    except Away:
                        self._link.drop(line)
                    except Refused as refused:
                        await self._bear(refused)
        finally:
            if self._connid is not None:
                self._link.free(self._connid)

    async def _bear(self, refused: Refused) -> None:
        """Have it tried again later, where that is of use."""
        if refused.passing:
            error = refused.answer.get("error") or {}
            await self._pause(error.get("retry_after") or SOON)
            return
        self._tell("problem", text=str(refused))
        self._tell("shown", run=None, name=None)
        if refused.code == "invalid" or self._result is not None:
            self._over = True
        else:
            await self._pause(ASK_AGAIN)

    async def _serve(self, line: Line) -> None:
        watch_at = clock()
        if self._run is None and self._ended is None:
            await self._request(line)
            watch_at += WATCH_AFTER
        watched = False
        while not self._over:
            if self._result is not None:
                await self._finish(line, self._result)
                continue
            if not watched and self._run is not None and clock() >= watch_at:
                watched = True
                await self._watch(line)
            if self._run is None and self._ended is None:
                return  # Lost: it begins anew.
            await self._renew_if_due(line)
            await self._pause(self._next(None if watched else watch_at))
            line.check()

    def _next(self, watch_at: float | None) -> float:
        """Seconds until there is something to do, unless we are woken."""
        told, told_at = self._told
        due = told_at + (self._lease or ASK_AGAIN) / 3
        if told != self._progress:
            due = min(due, told_at + PROGRESS_EVERY)
        return max(0.0, (due if watch_at is None else min(due, watch_at)) - clock())

    async def _request(self, line: Line) -> None:
        """Start it with the time that is left; one that has ended, too, for the history."""
        left = self._limit_at - clock()
        if self._result is not None:
            left = max(left, 1.0)
        if left <= 0:
            self._run = None
            self._ended = {"state": "finished", "outcome": "elapsed"}
            return
        if self._connid is None and self._replace:
            self._connid = self._wanted
        elif self._connid is None:
            ended = self._result is not None
            self._connid = await self._link.name(self._wanted, self._taken, ended)
        self._asked = True
        try:
            answer = await self._link.call(
                line,
                "request",
                connid=self._connid,
                key=self._key,
                time=left,
                lease=self._lease,
                note=self._note,
                stoppable=self._stoppable,
                if_running="replace" if self._replace else "reject",
            )
        except Refused as refused:
            self._asked = refused.unknown
            if refused.code != "conflict":
                raise
            self._link.free(self._connid)
            self._connid = None
            self._taken += 1
            await self._request(line)
            return
        self._begin(answer["job"])

    def _begin(self, job: Json) -> None:
        self._run = job["run"]
        self._asked = False
        self._told = (None, None), clock()
        self._deadline = job["deadline"]
        self._tell("shown", run=self._run, name=self._connid)
        self._link.hear(job["run"], self._listener)
        if job["state"] != "running":
            self._end(job)

    async def _watch(self, line: Line) -> None:
        """Hear of its end from now on; and whether that has been."""
        if self._connid is None or self._run is None:
            return
        self._link.hear(self._run, self._listener)
        job = await self._link.watch(line, self._connid)
        if job is not None and job["run"] == self._run and job["state"] == "running":
            self._learn_deadline(job)
            return
        await self._renew(line)

    def _learn_deadline(self, job: Json) -> None:
        """The server may give it more time than we know of."""
        if job["run"] != self._run:
            return
        if self._deadline is not None and job["deadline"] != self._deadline:
            self._limit_at += job["deadline"] - self._deadline
            self._tell("extended", left=self._limit_at - clock())
        self._deadline = job["deadline"]

    async def _renew_if_due(self, line: Line) -> None:
        told, told_at = self._told
        due = self._lease is not None and clock() >= told_at + self._lease / 3
        changed = told != self._progress and clock() >= told_at + PROGRESS_EVERY
        if self._ended is None and self._run is not None and (due or changed):
            await self._renew(line)

    async def _renew(self, line: Line) -> None:
        """Tell the latest progress, which renews the lease; or learn that it has ended."""
        if self._run is None or self._ended is not None:
            return
        progress = self._progress
        done, note = progress
        try:
            await self._call(line, "progress", done=done, note=note)
        except Refused as refused:
            if refused.code != "not_running":
                raise
            await self._learn_end(line, refused)
        self._told = progress, clock()

    async def _learn_end(self, line: Line, refused: Refused) -> None:
        """How the run ended that is not running; the name may have had others since."""
        job = refused.job
        if job is None or job["run"] != self._run:
            answer = await self._link.call(line, "history", connid=self._connid)
            job = next((found for found in answer["jobs"] if found["run"] == self._run), None)
        self._end(job or {"state": "finished", "outcome": "lost"})

    def _end(self, job: Json) -> None:
        """The server has ended the run, or knows nothing of it."""
        if self._ended is not None or job.get("run", self._run) != self._run:
            return
        self._link.free(self._connid or "")
        if job["state"] == "killed":
            self._ended = job
            by, reason = job["by"], job["reason"]
            self._tell("killed", text=killing(job), by=by, reason=reason)
        elif job["outcome"] == "elapsed":
            self._ended = job
            self._tell("elapsed")
        elif job["outcome"] == "lost":
            self._run = None  # We were away for longer than the lease: it begins anew.
            self._key = secrets.token_hex(16)
        else:
            self._ended = job  # Somebody has said for it that it is done.
        self._wake.set()

    async def _finish(self, line: Line, result: Json) -> None:
        """Tell the server how the program ended it."""
        if result["outcome"] == "interrupted":
            await self._interrupted()
            await self._until_ended(line)
            if self._run is not None and self._ended is not None:
                await self._stop(line)
        elif self._ended is not None:
            await self._stop(line)
        elif self._told[0] != self._progress:
            await self._renew(line)
            if self._run is None:
                await self._request(line)
            return  # How it ended comes next, by what we know then.
        else:
            try:
                await self._call_finish(line, result)
            except Refused as refused:
                if refused.code != "not_running":
                    raise
                await self._learn_end(line, refused)
                if self._run is None:
                    await self._request(line)
                return  # Told once more, by what we know now.
        self._over = True
        await self._link.forget(line, self._run, self._connid or "")

    async def _interrupted(self) -> None:
        """Wait until nothing is left of what it has started."""
        self.interrupt()
        if self._interrupting is not None:
            await self._interrupting

    async def _until_ended(self, line: Line) -> None:
        """Wait a moment for the server: by its clock the time may not be over yet."""
        patience = clock() + SOON
        while self._ended is None and self._run is not None and clock() < patience:
            await self._pause(patience - clock())
            await self._renew(line)

    async def _stop(self, line: Line) -> None:
        """Of a job that was killed, or whose time was over: its work is gone."""
        ended = self._ended or {}
        if ended["state"] == "killed" or ended["outcome"] == "elapsed":
            with contextlib.suppress(Refused):
                await self._call(line, "stopped")

    async def _call_finish(self, line: Line, result: Json) -> None:
        try:
            await self._call(line, "finish", **result)
        except Refused as refused:
            if refused.code != "invalid":
                raise
            await self._call(line, "finish", outcome=result["outcome"])  # It takes less than that.

    async def _call(self, line: Line, command: str, **fields: Any) -> Json:
        return await self._link.call(line, command, connid=self._connid, run=self._run, **fields)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with timeout(seconds):
                await self._wake.wait()
        self._wake.clear()
