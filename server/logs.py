"""The log of the process: lines for people on a terminal, else one JSON object a line."""

import asyncio
import json
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from server.changes import Change
from server.text import HIDDEN

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonLines(logging.Formatter):
    """A record as a JSON object with `time`, `level`, `logger`, `message` and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": instant(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class ChangeLog:
    """Writes a line for each change of a job; those of one turn of the loop in one write."""

    def __init__(self, stream: TextIO, in_json: bool) -> None:
        self._stream = stream
        self._line = json_line if in_json else text_line
        self._lines: list[str] = []

    def __call__(self, change: Change) -> None:
        """Write a change soon."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        self._lines.append(self._line(change))

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        self._stream.write("".join(lines))
        self._stream.flush()


def set_up(level: str, form: str) -> Callable[[Change], None] | None:
    """Log to stderr from `level` on; what writes changes, None where they are not to be seen.

    `form` is `json`, `text`, or empty for `text` on a terminal and `json` elsewhere.
    """
    in_json = form == "json" or (not form and not sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if in_json else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    wanted = logging.getLogger("server.changes").isEnabledFor(logging.INFO)
    return ChangeLog(sys.stderr, in_json) if wanted else None


def instant(at: float) -> str:
    """Unix time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def escaped(found: re.Match[str]) -> str:
    """A character as JSON may have it, too."""
    return json.dumps(found[0])[1:-1]


def json_line(change: Change) -> str:
    """A change as a line of JSON, in the form of all others."""
    fields = HIDDEN.sub(escaped, msgspec.json.encode(change).decode())
    return (
        f'{{"time":"{instant(change.at)}","level":"INFO","logger":"server.changes",{fields[1:]}\n'
    )


def text_line(change: Change) -> str:
    """A change as a line for people; what clients wrote is quoted."""
    fields = msgspec.structs.asdict(change)
    event = fields.pop("event")
    del fields["at"]
    shown = " ".join(f"{key}={json.dumps(value)}" for key, value in fields.items() if value)
    return f"{instant(change.at)} INFO server.changes: {event} {shown}\n"
