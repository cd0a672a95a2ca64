"""`hourglass watch NAME`: the output of one job; without a name the board of `tui`."""

import argparse
import asyncio
import functools
import itertools
import re
import sys

from hourglass.board import Board
from hourglass.errors import Exit, Refused
from hourglass.follow import keep_up
from hourglass.formatting import duration, ending, facts, in_bytes, instant, killing, printable
from hourglass.session import Line, connected, over_lines
from hourglass.settings import Json, Settings, clock, to_json
from hourglass.tui import show_board

STOP_WITHIN = 15.0
"""Seconds that a killed job which is watched may take to stop."""


async def watch(options: argparse.Namespace, settings: Settings) -> int:
    """Show a room or the output of a job, live; the exit code."""
    if options.name is not None:
        return await Follower(options.name, options.json, settings).follow()
    if sys.stdout.isatty() and not options.json:
        return await show_board(settings)

    def heard(name: str, event: Json) -> None:
        text = to_json(event) if options.json else sentence(name, event)
        if text:
            print(text, flush=True)

    await keep_up(settings, Board(), heard, complain)
    return Exit.DONE


def complain(problem: str) -> None:
    if problem:
        print(f"hourglass: {printable(problem)}; trying again", file=sys.stderr)


def sentence(name: str, event: Json) -> str:
    """An event of the log on one line; "" for the others."""
    if name == "started":
        job = event["job"]
        what = f"{job['connid']} started by {job['by']} for {duration(job['time'])}"
    elif name == "extended":
        what = f"{event['connid']} may run for {duration(event['time'])}, says {event['by']}"
    elif name == "killed":
        what = f"{event['connid']} {killing(event)}"
    elif name == "finished":
        what = f"{event['connid']} finished: {event['outcome']}"
    elif name == "stopped":
        what = f"{event['connid']} stopped, exit {event['exit']}"
    elif name == "amended":
        what = f"{event['connid']} was lost, and has ended: {event['outcome']}"
    else:
        return ""
    return f"{instant(event['at'])}  {printable(what)}"


class Follower:
    """Prints the output of one run of a job as it comes, until the run ends."""

    def __init__(self, connid: str, raw: bool, settings: Settings) -> None:
        """`raw` prints the events as JSON in place of the output alone."""
        self._connid = connid
        self._raw = raw
        self._settings = settings
        self._tty = sys.stdout.isatty()
        self._run: str | None = None
        self._printed: int | None = None
        self._end: Json | None = None
        self._over = asyncio.Event()

    async def follow(self) -> int:
        """The exit code: 0 when the job was done."""
        connect = functools.partial(connected, self._settings, self._heard)
        return await over_lines(connect, self._until_end, complain)

    async def _until_end(self, line: Line) -> int:
        await self._join(line)
        await line.until(self._over)
        await self._wait_for_stop(line)
        await self._join(line)  # What was printed last may still be on its way.
        return self._say_end()

    async def _join(self, line: Line) -> None:
        answer = await line.call("join", room=self._settings.room, connid=self._connid)
        job = answer.get("job")
        if job is None:
            message = f"nothing is known of {self._connid} in room {self._settings.room}"
            raise Refused.here("not_running", message)
        if self._run is None:
            self._run = job["run"]
        output = answer.get("output")
        if output is not None and job["run"] == self._run:
            self._print(output["offset"], output["text"])
        if job["run"] != self._run:
            job = await self._look_up(line)
        if job["state"] != "running":
            self._end = job
            self._over.set()

    async def _look_up(self, line: Line) -> Json:
        """The run that we follow, when another one has begun meanwhile."""
        answer = await line.call("history", room=self._settings.room, connid=self._connid)
        for job in answer["jobs"]:
            if job["run"] == self._run:
                return dict(job)
        message = f"{self._connid} is running again, and its last run is not known any more"
        raise Refused.here("not_running", message)

    def _heard(self, name: str, event: Json) -> None:
        if self._raw:
            print(to_json(event), flush=True)
        if event.get("run") != self._run or self._run is None:
            return
        if name == "output":
            self._print(event["offset"], event["text"])
        elif name in ("killed", "finished"):
            self._end = {**event, "state": name}
            self._over.set()
        elif name == "stopped" and self._end is not None:
            self._end["exit"] = event["exit"]
            self._end["stopped_at"] = event["at"]

    def _print(self, offset: int, text: str) -> None:
        """Print what was not printed yet, and say what was missed."""
        if self._raw:
            return
        if self._printed is None:
            self._printed = offset
        if offset > self._printed:
            self._write(f"\n… {in_bytes(offset - self._printed)} missed …\n")
        self._write(text[max(0, self._printed - offset) :])
        self._printed = max(self._printed, offset + len(text))

    def _write(self, text: str) -> None:
        sys.stdout.write(harmless(text) if self._tty else text)
        sys.stdout.flush()

    async def _wait_for_stop(self, line: Line) -> None:
        """What was killed may still print, and its owner may say when it is gone."""
        assert self._end is not None
        patience = clock() + STOP_WITHIN
        if self._end["state"] == "killed" and self._printed is not None:
            while self._end.get("stopped_at") is None and clock() < patience:
                line.check()
                await asyncio.sleep(0.05)

    def _say_end(self) -> int:
        assert self._end is not None
        if self._tty:
            self._write("\x1b[0m")
        more = facts(self._end)
        text = f"{self._connid}: {ending(self._end)}" + (f" ({more})" if more else "")
        print(f"hourglass: {printable(text)}", file=sys.stderr)
        return Exit.DONE if self._end.get("outcome") == "done" else Exit.FAILED


COLOURS_ONLY = re.compile(r"\x1b\[[0-9;]*m")


def harmless(text: str) -> str:
    """A text that colours a terminal at most."""
    keep = [found.group() for found in COLOURS_ONLY.finditer(text)]
    parts = [printable(part, keep="\n\r\t") for part in COLOURS_ONLY.split(text)]
    return "".join(itertools.chain(*itertools.zip_longest(parts, keep, fillvalue="")))
