"""The server, the token, the room and the name: from flags, the environment and a file."""

import getpass
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from hourglass.errors import Json as Json
from hourglass.files import Complain, project_settings, refuse, user_settings
from hourglass.naming import fitting
from hourglass.native import clock as clock

Result = TypeVar("Result")


@dataclass(frozen=True)
class Settings:
    """Where the server is, and who asks."""

    url: SplitResult
    room: str
    by: str
    read_token: Callable[[], str | None]
    """Asked at each connect: a run may outlast its token, and the file hold a newer one."""
    problem: str | None = None
    """Why there is no server to connect to."""

    @classmethod
    def load(
        cls,
        flags: Mapping[str, str | None],
        environ: Mapping[str, str],
        complain: Complain = refuse,
    ) -> "Settings":
        """From flags, else `HOURGLASS_…`, else the files.

        What is wrong with a file is for `complain`. Raises `SettingsError` for a flag, and unless
        there is another `complain` for the rest, too.
        """
        file = {**user_settings(environ, complain), **project_settings(complain)}

        def told(name: str) -> str | None:
            return flags.get(name) or environ.get(f"HOURGLASS_{name.upper()}")

        def read_token() -> str | None:
            return told("token") or user_settings(environ, lambda problem: None).get("token")

        address = told("url") or file.get("url") or "http://127.0.0.1:8000"
        url, problem = server(address)
        if problem is not None and (flags.get("url") or complain is refuse):
            refuse(problem)
        room = told("room") or file.get("room") or "main"
        return cls(url, room, told("by") or file.get("by") or whoami(), read_token, problem)


def server(address: str) -> tuple[SplitResult, str | None]:
    """The address of a server, and what is wrong with it."""
    try:
        url = urlsplit(address)
        if url.scheme in ("http", "https") and url.hostname and url.port != 0:
            return url, None
    except ValueError:
        pass
    problem = f"url must be like https://hourglass.example, not {address}"
    return urlsplit(""), problem


def whoami() -> str:
    """`user@host`, as far as the machine knows them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # No name for the user's number, as in many containers.
        user = str(os.getuid())
    return fitting(f"{user}@{socket.gethostname()}")[:64]


def to_json(value: Any) -> str:
    """A value as JSON on one line, in the letters that it has."""
    return json.dumps(value, ensure_ascii=False)
