"""The server, the token, the room and the name: from flags, the environment and a file."""

import getpass
import json
import os
import socket
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

Json = dict[str, Any]
Result = TypeVar("Result")


class SettingsError(Exception):
    """A setting cannot be used; the message names it."""


@dataclass(frozen=True)
class Settings:
    """Where the server is, and who asks."""

    url: SplitResult
    room: str
    by: str
    read_token: Callable[[], str | None]
    """Asked at each connect: a run may outlast its token, and the file hold a newer one."""

    @classmethod
    def load(cls, flags: Mapping[str, str | None], environ: Mapping[str, str]) -> "Settings":
        """From flags, else `HOURGLASS_…`, else the file. Raises `SettingsError`."""

        def setting(name: str) -> str | None:
            told = flags.get(name) or environ.get(f"HOURGLASS_{name.upper()}")
            return told or read_file(environ).get(name)

        url = urlsplit(setting("url") or "http://127.0.0.1:8000")
        try:
            usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise SettingsError(f"url must be like https://hourglass.example, not {url.geturl()}")
        room, by = setting("room") or "main", setting("by") or whoami()
        return cls(url, room, by, lambda: setting("token"))


def read_file(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of `hourglass.toml` in the user's folder of configuration, if it is there."""
    folder = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "~", ".config")
    path = Path(folder, "hourglass.toml").expanduser()
    try:
        found = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    for name, value in found.items():
        if name not in ("url", "token", "room", "by") or not isinstance(value, str):
            raise SettingsError(f"{path}: {name} must be url, token, room or by, and a text")
    return found


def whoami() -> str:
    """`user@host`, as far as the machine knows them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # No name for the user's number, as in many containers.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:64]


def to_json(value: Any) -> str:
    """A value as JSON on one line, in the letters that it has."""
    return json.dumps(value, ensure_ascii=False)


def clock() -> float:
    """Seconds that nobody can set, and that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
