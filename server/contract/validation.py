"""From what a client sent to a checked command: every field of the right type and in its range.

The one place that knows the bounds of each field, and how to say what would be right.
"""

import json
import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args

import msgspec
from msgspec import Raw
from msgspec.structs import fields

from server.config import Config
from server.contract.messages import COMMANDS, Command, Hello, Since, Stoppable
from server.contract.text import is_name
from server.errors import CommandError, Invalid, TooLarge, UnknownRoute

Message = TypeVar("Message", bound=msgspec.Struct)

Plan = tuple[str, Any, Callable[[Any], Any]]
"""A field, its value when it was left out, its check."""
MOST_HISTORY = 500
MOST_CONNID = 128
MOST_RUN = 64
MOST_KEY = 64
MOST_SEQ = 2**53
"""The largest whole number that every JSON client can hold."""

UNSEEN = "control or invisible characters"
ROOM = re.compile(r"[A-Za-z0-9._-]{1,64}")
NUMBER = re.compile(r"\s*(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
MOST_NUMBER = 64
"""The most characters of a number that is given as text."""
PLACE = re.compile(r"- at `\$\.(\w+)")
MISSING = re.compile(r"missing required field `(\w+)`")
SURROGATE = re.compile(r"[\ud800-\udfff]")
WORDS = {
    dict: "an object",
    list: "an array",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    bytes: "binary",
    type(None): "null",
}


class Checker:
    """Parses commands and checks them against the bounds of a `Config`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        seconds = f"a number of seconds above 0 and at most {plain(config.max_time)} (MAX_TIME)"
        text = f"text of at most {config.max_note} characters (MAX_NOTE)"
        # What each field must be, as the end of a sentence, and its check.
        self._fields: dict[str, tuple[str, Callable[[Any], Any]]] = {
            "connid": (
                f"1 to {MOST_CONNID} characters without {UNSEEN}, or a whole number",
                connid,
            ),
            "time": (seconds, self._seconds),
            "lease": (seconds, self._seconds),
            "deadline": ("the job's deadline as it is known, in Unix time", within(0, MOST_SEQ)),
            "room": ("1 to 64 of the characters A-Z a-z 0-9 . _ -", room),
            "note": (text, self._text),
            "reason": (text, self._text),
            "text": ("text", self._printed),
            "if_running": ('"reject", "keep" or "replace"', one_of("reject", "keep", "replace")),
            "stoppable": ('"yes", "cooperative" or "no"', one_of(*get_args(Stoppable))),
            "outcome": ('"done" or "failed"', one_of("done", "failed")),
            "run": ("the run's id, 1 to 64 characters", run),
            "key": (f"1 to {MOST_KEY} characters without {UNSEEN}", key),
            "done": ("a number from 0 to 1", within(0, 1)),
            "exit": ("a whole number from -2147483648 to 4294967295", whole(-(2**31), 2**32 - 1)),
            "result": (
                f"JSON of at most {config.max_result} bytes (MAX_RESULT) and"
                f" {config.max_depth} levels (MAX_DEPTH)",
                self._result,
            ),
            "since": (
                f'{{"epoch": text, "seq": a whole number from 0 to {MOST_SEQ}}}, when connecting'
                " an object with that for each room",
                since,
            ),
            "before": (f"a whole number from 1 to {MOST_SEQ}", whole(1, MOST_SEQ)),
            "limit": (f"a whole number from 1 to {MOST_HISTORY}", whole(1, MOST_HISTORY)),
            "route": ("the name of a command", str),
            "token": ("text", str),
            "name": (
                f"at most {config.max_name} characters (MAX_NAME) without {UNSEEN}",
                self._name,
            ),
            "via": ('"cli", or left out', str),
            "rooms": (
                f"at most {config.max_joined} names of rooms (MAX_JOINED), as an array or"
                " separated by commas",
                self._rooms,
            ),
        }

        self._plans: dict[type[msgspec.Struct], list[Plan]] = {
            kind: [
                (field.name, field.default, self._fields[field.name][1])
                for field in fields(kind)
                if self._fields[field.name][1] is not str  # Decoding has checked that.
            ]
            for kind in (*COMMANDS.values(), Hello)
        }
        # A character has up to four bytes.
        self._surely_short = config.max_message // 4

    def right(self, field: str) -> str:
        """What a field must be, as the end of a sentence."""
        return self._fields[field][0]

    def decode(self, text: str | bytes) -> Any:
        """The JSON that a client sent. Raises `Invalid`, or `TooLarge` above `MAX_MESSAGE`.

        NaN, Infinity and lone surrogates, which are not JSON, are let through: the check of the
        field that holds one gives a better answer than a message that cannot be read.
        """
        size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
        if size > self._config.max_message:
            raise TooLarge(too_long(self._config))
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise Invalid("the message is not valid JSON, or is nested too deeply") from None

    def command(self, name: str | None, payload: Any) -> Command:
        """The checked command that `payload` holds; its `route` names it where `name` is None.

        Fields that are not known are ignored, and null is the same as a field left out, or as an
        object without any. Raises `Invalid` with the field's name, and `UnknownRoute`.
        """
        if payload is None:
            payload = {}
        if not isinstance(payload, dict):
            raise Invalid(f"a command must be a JSON object, not {_word(payload)}")
        return self._checked(_kind(name, payload.get("route")), payload)

    def event(self, text: str) -> Command | None:
        """The checked command in an event's JSON, `["kill", {…}]`, decoded in one step.

        None where it is of another form, too long, or not valid: then `decode` and `command` say
        what is wrong with it.
        """
        if len(text) > self._surely_short:
            return None
        try:
            command: Command = decode_event(text).command
            self._check(command)
        except (msgspec.MsgspecError, CommandError, ValueError, RecursionError):
            return None
        return command if command.route is None or command.route == command.name else None

    def hello(self, auth: Any) -> Hello:
        """What a client says of itself when it connects. Raises `Invalid`."""
        if auth is None:
            auth = {}
        if not isinstance(auth, dict):
            raise Invalid(f"auth must be an object, not {_word(auth)}", field="auth")
        return self._checked(Hello, auth)

    def _checked(self, kind: type[Message], payload: dict[str, Any]) -> Message:
        try:
            message = msgspec.convert(payload, kind)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            raise self._wrong_type(str(error), payload) from None
        self._check(message)
        return message

    def _check(self, message: msgspec.Struct) -> None:
        for field, left_out, check in self._plans[type(message)]:
            value = getattr(message, field)
            if value is left_out:
                continue
            if value is None:
                setattr(message, field, default_of(type(message), field))
                continue
            try:
                checked = check(value)
            except (ValueError, TypeError, OverflowError, RecursionError):
                right, _ = self._fields[field]
                raise Invalid(f"{field} must be {right}", field=field) from None
            if checked is not value:
                setattr(message, field, checked)

    def _wrong_type(self, error: str, payload: dict[str, Any]) -> Invalid:
        found = PLACE.search(error) or MISSING.search(error)
        field = found[1] if found else _surrogate(payload)
        if field not in self._fields:
            return Invalid("the message is not valid Unicode")
        right, _ = self._fields[field]
        if field not in payload:
            return Invalid(f"{field} is missing: it must be {right}", field=field)
        return Invalid(f"{field} must be {right}, not {_word(payload[field])}", field=field)

    def _seconds(self, value: float | int | str) -> float:
        if isinstance(value, str):
            if len(value) > MOST_NUMBER or not NUMBER.fullmatch(value):
                raise ValueError
            value = float(value)
        if not 0 < value <= self._config.max_time:
            raise ValueError
        return float(value)

    def _text(self, value: str) -> str:
        if len(value) > self._config.max_note:
            raise ValueError
        return self._printed(value)

    def _printed(self, value: str) -> str:
        if not value.isascii() and SURROGATE.search(value):
            raise ValueError
        return value

    def _name(self, value: str) -> str:
        if len(value) > self._config.max_name:
            raise ValueError
        name = value.strip()
        if name and not is_name(name, len(name)):
            raise ValueError
        return name

    def _rooms(self, value: list[str] | str) -> list[str]:
        if isinstance(value, str):
            value = [name for name in value.split(",") if name]
        if len(value) > self._config.max_joined:
            raise ValueError
        return list(dict.fromkeys(room(name) for name in value))

    def _result(self, value: Any) -> Raw:
        if depth(value, self._config.max_depth) > self._config.max_depth:
            raise ValueError
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        encoded = text.encode()
        if len(encoded) > self._config.max_result:
            raise ValueError
        return Raw(encoded)


def default_of(kind: type[msgspec.Struct], name: str) -> Any:
    """The value that a field has when it is left out or null."""
    field = next(field for field in fields(kind) if field.name == name)
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


decode_event: Callable[[str], Any] = msgspec.json.Decoder(
    Union[  # noqa: UP007
        tuple(
            msgspec.defstruct(
                f"{kind.__name__}Event",
                [("command", kind)],
                array_like=True,
                forbid_unknown_fields=True,
                tag=name,
            )
            for name, kind in COMMANDS.items()
        )
    ]
).decode
"""Decodes an event into a struct with its `command`."""


def connid(value: str | int | float) -> str:
    text = str(integer(value) if isinstance(value, float) else value)
    if not is_name(text, MOST_CONNID):
        raise ValueError
    return text


@lru_cache(1024)
def room(value: str) -> str:
    if len(value) > 64 or not ROOM.fullmatch(value):
        raise ValueError
    return value


def run(value: str) -> str:
    if not is_name(value, MOST_RUN):
        raise ValueError
    return value


def key(value: str) -> str:
    if not is_name(value, MOST_KEY):
        raise ValueError
    return value


def since(value: Since | dict[str, Since | None]) -> Since | dict[str, Since | None]:
    if isinstance(value, dict):
        return {room: at and position(at) for room, at in value.items()}
    return position(value)


def position(value: Since) -> Since:
    if len(value.epoch) > 64:
        raise ValueError
    return Since(value.epoch, seq(value.seq))


def one_of(*words: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in words:
            raise ValueError
        return value

    return check


def within(least: float, most: float) -> Callable[[float], float]:
    def check(value: float) -> float:
        if not least <= value <= most or not math.isfinite(value):
            raise ValueError
        return value

    return check


def whole(least: int, most: int) -> Callable[[float], int]:
    def check(value: float) -> int:
        if not least <= value <= most:
            raise ValueError
        return integer(value)

    return check


seq = whole(0, MOST_SEQ)


def integer(value: float) -> int:
    """The whole number that a number is. Raises `ValueError` where it is none.

    Languages that have floats only send 12.0 for 12.
    """
    if value != int(value):
        raise ValueError
    return int(value)


def too_long(config: Config) -> str:
    """What is said of a message above `MAX_MESSAGE`."""
    return f"message too long (MAX_MESSAGE={config.max_message} bytes)"


def plain(number: float) -> str:
    """A number as people write it."""
    return f"{number:.3f}".rstrip("0").rstrip(".")


def depth(value: Any, most: int) -> int:
    """How many arrays and objects `value` nests, counted to just above `most`."""
    if most < 0 or not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((depth(item, most - 1) for item in inner), default=0)


def _kind(name: str | None, route: Any) -> type[Command]:
    if name is None:
        name = route if isinstance(route, str) else ""
        if not name:
            raise UnknownRoute(f"route must be one of {', '.join(COMMANDS)}")
    elif name in COMMANDS and route is not None and route != name:
        raise UnknownRoute(f"route must match the event, {name}, or be left out")
    if name not in COMMANDS:
        raise UnknownRoute(f"unknown command {ascii(name)[:80]}: use one of {', '.join(COMMANDS)}")
    return COMMANDS[name]


def _surrogate(payload: dict[str, Any]) -> str | None:
    """The field whose text has half of a character, which no JSON may have."""
    for field, value in payload.items():
        if SURROGATE.search(json.dumps(value, ensure_ascii=False, default=str)):
            return field
    return None


def _word(value: Any) -> str:
    return WORDS.get(type(value), "that")
