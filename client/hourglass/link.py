"""One connection to the server for all jobs of a program that have the same settings."""

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from hourglass.aio import timeout
from hourglass.errors import Away, Refused
from hourglass.naming import numbered
from hourglass.session import Backoff, Line, connected
from hourglass.settings import Json, Settings

LEASE = 30.0
IDLE = 60.0
"""Seconds after which a connection without jobs is closed."""
MOST_ENDS = 256
"""Ends that are remembered: one may be heard of before the answer that names its run."""
MOST_WATCHED = 80
"""Jobs that are watched one by one; with more, their whole room is. The server takes 100."""
FINISH_WITHIN = 2.0
"""Seconds that a job waits for its name, when one that is over still has it."""
TRIES = 3
"""Numbers that are tried for a name that is taken, before a random one."""


class Listener(NamedTuple):
    """Who hears of a run."""

    ended: Callable[[Json], None]
    """Called with its end."""
    extended: Callable[[Json], None]
    """Called when its deadline is moved."""


class Link:
    """A connection while there are jobs, and the next one when it is lost."""

    def __init__(self, settings: Settings, say: Callable[..., None]) -> None:
        self.settings = settings
        self._say = say
        self._listeners: dict[str, Listener] = {}
        """By run, of each that is there."""
        self._names: set[str] = set()
        self._finishing: dict[str, asyncio.Event] = {}
        self._ends: OrderedDict[str, Json] = OrderedDict()
        self._watched: set[str] = set()
        self._line: Line | None = None
        self._up = asyncio.Event()
        self._over = asyncio.Event()
        """The connection is to be closed."""
        self._users = 0
        self._idle: asyncio.TimerHandle | None = None
        self._keeping: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def used(self) -> Any:
        """A block for which there is a connection, as often as it can be had."""
        self._users += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._keeping is None or self._keeping.done():
            self._over.clear()
            self._keeping = asyncio.get_running_loop().create_task(self._keep())
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle = asyncio.get_running_loop().call_later(IDLE, self._close)

    async def line(self) -> Line:
        """The connection, as soon as there is one."""
        while self._line is None:
            await self._up.wait()
        return self._line

    def drop(self, line: Line) -> None:
        """Connect anew, where that has not been done."""
        if line is self._line:
            self._line = None
            self._up.clear()
            self._over.set()

    async def name(self, wanted: str, taken: int, ended: bool) -> str:
        """A name that none of ours has; `taken` is how many others have turned out to have.

        One that is just being finished has its name a moment longer, which is waited for; `ended`
        says that this one will be, too.
        """
        with contextlib.suppress(TimeoutError):
            async with timeout(FINISH_WITHIN):
                while (finishing := self._finishing.get(wanted)) is not None:
                    await finishing.wait()
        number = 1
        while (name := numbered(wanted, number) if number > 1 else wanted) in self._names:
            number += 1
        if taken >= TRIES:
            name = numbered(wanted, 1000 + secrets.randbelow(9000))
        elif taken:
            name = numbered(wanted, number + taken)
        self._names.add(name)
        if ended:
            self.finish(name)
        return name

    def finish(self, name: str) -> None:
        """A job of ours is being finished."""
        if name in self._names:
            self._finishing[name] = asyncio.Event()

    def free(self, name: str) -> None:
        """A name is ours no more."""
        self._names.discard(name)
        if (finishing := self._finishing.pop(name, None)) is not None:
            finishing.set()

    async def call(self, line: Line, command: str, **fields: Any) -> Json:
        return await line.call(command, room=self.settings.room, **fields)

    def hear(self, run: str, listener: Listener) -> None:
        """Have a listener told of a run, and of its end at once where that has come already."""
        self._listeners[run] = listener
        if run in self._ends:
            listener.ended(self._ends[run])

    async def watch(self, line: Line, connid: str) -> Json | None:
        """Have the server tell of a job, over this line; how it is now, where that is known."""
        if "" in self._watched:
            return None
        if len(self._watched) >= MOST_WATCHED:
            self._watched.add("")
            await self.call(line, "join")
            return None
        self._watched.add(connid)
        job: Json | None = (await self.call(line, "join", connid=connid)).get("job")
        return job

    async def forget(self, line: Line, run: str | None, connid: str) -> None:
        """A job is over."""
        self._listeners.pop(run or "", None)
        if connid in self._watched and line is self._line:
            self._watched.discard(connid)
            with contextlib.suppress(Away, Refused):
                await self.call(line, "leave", connid=connid)

    def _close(self) -> None:
        self._over.set()

    async def _keep(self) -> None:
        backoff = Backoff(LEASE)
        while self._users:
            self._over.clear()
            try:
                async with connected(self.settings, self._heard) as line:
                    backoff.up()
                    self._watched.clear()
                    self._line = line
                    self._up.set()
                    self._say("up")
                    await line.until(self._over)
                    continue
            except (Away, Refused) as problem:
                self._tell_away(str(problem))
            except Exception as error:
                self._tell_away(f"the server is not understood: {error!r}")
            finally:
                self._line = None
                self._up.clear()
            await asyncio.sleep(backoff.seconds())

    def _tell_away(self, problem: str) -> None:
        self._say("away")
        self._say("problem", text=problem)

    def _heard(self, name: str, event: Json) -> None:
        listener = self._listeners.get(event.get("run", ""))
        if name == "extended" and listener is not None:
            listener.extended(event)
        if name in ("killed", "finished"):
            end = {**event, "state": name}
            self._ends[event["run"]] = end
            if len(self._ends) > MOST_ENDS:
                self._ends.popitem(last=False)
            if listener is not None:
                listener.ended(end)
