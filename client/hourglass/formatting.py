"""Durations, instants and jobs as people read them."""

import re
import time

from hourglass.settings import Json, to_json

ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
"""What colours a terminal, moves its cursor or sets its title."""


def printable(text: str, keep: str = "") -> str:
    """A text without what could drive a terminal, but for the characters to keep."""
    return "".join(c for c in ESCAPE.sub("", text) if c.isprintable() or c in keep)


def in_bytes(size: float) -> str:
    """A size as people write it: "812 B", "1.2 MB"."""
    units = ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.1f} {units[0]}" if size < 10 and units[0] != "B" else f"{size:.0f} {units[0]}"


def duration(seconds: float) -> str:
    """A duration as a clock reads it: "1:05", "2h 03m", "3d 04h"."""
    whole = max(0, int(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600:02}h"


def time_left(seconds: float) -> str:
    """A duration rounded up: "0:00" only when nothing is left."""
    return duration(-(-(seconds - 1e-3) // 1))


def instant(at: float) -> str:
    """An instant of the server in the reader's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def percent(job: Json) -> str:
    """How far a job says that it is: "40% tables 12/30"."""
    told = job["progress"] or {}
    done = "" if told.get("done") is None else f"{told['done']:.0%}"
    return f"{done} {told.get('note') or ''}".strip()


def ending(job: Json) -> str:
    """How a job ended, in a word or two."""
    if job["state"] == "killed":
        return f"killed by {job['by']}"
    return "time ran out" if job["outcome"] == "elapsed" else str(job["outcome"])


def facts(job: Json) -> str:
    """What else there is to say about the end of a job."""
    found = [job["reason"]] if job.get("reason") else []
    if job.get("stopped_at") is not None:
        found.append("stopped" if job["exit"] is None else f"stopped, exit {job['exit']}")
    result = job.get("result")
    if isinstance(result, dict) and "exit" in result:
        found.append(f"exit {result['exit']}")
    elif result is not None:
        found.append(to_json(result))
    if job.get("late"):
        found.append("recorded late")
    return ", ".join(found)


def killing(job: Json) -> str:
    why = f": {job['reason']}" if job.get("reason") else ""
    return f"killed by {job['by']}{why}"
