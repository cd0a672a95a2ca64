"""The files that settings come from: the user's own, and that of the project one is in."""

import os
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from hourglass.errors import SettingsError
from hourglass.toml import toml

Complain = Callable[[str], None]
"""Hears what is wrong with a file, and either raises or lets the rest of it be used."""
NAMES = ("url", "token", "room", "by")
NAMES_OF_PROJECT = ("room", "time", "note")
"""No `url` and no `token`: a folder that was downloaded must not say who is sent what is printed
in it."""


def refuse(problem: str) -> None:
    raise SettingsError(problem)


def user_settings(environ: Mapping[str, str], complain: Complain = refuse) -> dict[str, str]:
    """What stands in `hourglass.toml` in the user's folder of configuration, if it is there."""
    try:
        folder = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "~", ".config")
        path = Path(folder, "hourglass.toml").expanduser()
    except RuntimeError:  # Nobody knows where the home of such a user is.
        return {}
    return read(path, NAMES, complain)


def project_settings(complain: Complain = refuse) -> dict[str, str]:
    """What stands in the nearest `.hourglass.toml`, of this folder or one above it."""
    try:
        here = Path.cwd()
    except OSError:  # It was deleted.
        return {}
    for folder in (here, *here.parents):
        path = folder / ".hourglass.toml"
        try:
            found = path.stat()
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode):
            continue
        if found.st_uid not in {0, os.getuid(), int(os.environ.get("SUDO_UID") or 0)}:
            complain(f"{path} belongs to somebody else")
            return {}
        return read(path, NAMES_OF_PROJECT, complain)
    return {}


def read(path: Path, names: Collection[str], complain: Complain) -> dict[str, str]:
    """The texts with these names in a file; empty when it is not there."""
    try:
        found: dict[str, Any] = toml(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        complain(f"{path} cannot be read: {error.strerror}")
        return {}
    except ValueError as error:
        complain(f"{path} cannot be read: {error}")
        return {}
    wrong = [key for key in found if key not in names or not isinstance(found[key], str)]
    if wrong:
        *most, last = names
        complain(f"{path}: {', '.join(wrong)} must be {', '.join(most)} or {last}, and a text")
    return {key: found[key] for key in found if key not in wrong}
