"""The log of the process: lines for people on a terminal, else one JSON object a line."""

import asyncio
import atexit
import json
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from io import TextIOBase

import msgspec

from server.audit import AuditRecord
from server.config import Config
from server.contract.text import HIDDEN
from server.monitoring.sink import Sink

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


class TextLines(logging.Formatter):
    """A record as a line for people; a traceback below it, each line of which is moved in."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def format(self, record: logging.LogRecord) -> str:
        return "\n  ".join(HIDDEN.sub(escaped, line) for line in super().format(record).split("\n"))

    def formatMessage(self, record: logging.LogRecord) -> str:
        # A line end in it is of a client, perhaps, that would write a line of its own.
        record.message = HIDDEN.sub(escaped, record.message)
        return super().formatMessage(record)


class ChangeLog:
    """Writes a line for each change of a job; those of one turn of the loop in one write."""

    def __init__(self, stream: TextIOBase, in_json: bool) -> None:
        self._stream = stream
        self._line = json_line if in_json else text_line
        self._lines: list[str] = []

    def __call__(self, change: AuditRecord) -> None:
        """Write a change soon."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        self._lines.append(self._line(change))

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        self._stream.write("".join(lines))


def set_up(config: Config) -> Callable[[AuditRecord], None] | None:
    """Log to stderr; what writes changes, None where they are not to be seen.

    From now on nothing that is written to stdout or stderr waits for who reads it, not even when
    the process ends.
    """
    sys.stdout, stderr = Sink(1, config.log_buffer), Sink(2, config.log_buffer)
    sys.stderr = stderr
    for sink in (sys.stdout, stderr):
        atexit.register(sink.drain, config.stop_timeout / 4)
    in_json = config.log_format == "json" or (not config.log_format and not stderr.isatty())
    formatter = JsonLines() if in_json else TextLines()
    stderr.notice = partial(dropped_line, formatter)
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])
    wanted = logging.getLogger("server.changes").isEnabledFor(logging.INFO)
    return ChangeLog(stderr, in_json) if wanted else None


def lines_dropped() -> int:
    """Lines of stdout and stderr that were dropped, as nobody read them."""
    return sum(file.dropped for file in (sys.stdout, sys.stderr) if isinstance(file, Sink))


def dropped_line(formatter: logging.Formatter, count: int) -> str:
    """The line that tells how many are missing before it."""
    told = "%d lines of the log were dropped here: they could not be written in time"
    record = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": told}
    return formatter.format(logging.makeLogRecord({**record, "args": (count,)})) + "\n"


def instant(at: float) -> str:
    """Unix time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def escaped(found: re.Match[str]) -> str:
    """A character as JSON may have it, too."""
    return json.dumps(found[0])[1:-1]


def json_line(change: AuditRecord) -> str:
    """A change as a line of JSON, in the form of all others."""
    fields = HIDDEN.sub(escaped, msgspec.json.encode(change).decode())
    return (
        f'{{"time":"{instant(change.at)}","level":"INFO","logger":"server.changes",{fields[1:]}\n'
    )


def text_line(change: AuditRecord) -> str:
    """A change as a line for people; what clients wrote is quoted."""
    fields = msgspec.structs.asdict(change)
    event = fields.pop("event")
    del fields["at"]
    shown = " ".join(f"{key}={json.dumps(value)}" for key, value in fields.items() if value)
    return f"{instant(change.at)} INFO server.changes: {event} {shown}\n"
