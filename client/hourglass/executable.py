"""Whether a command can be executed as it is, found out as a shell does."""

import os
import shutil
import sys
from collections.abc import Sequence

HEAD = 256
"""Bytes of a file that tell what it is."""


def executable(argv: Sequence[str], quiet: bool) -> list[str]:
    """What to execute for a command; an interpreter that is not there is told, unless `quiet`.

    A script that does not say who runs it is run by `sh` (POSIX, Shell Command Language, 2.9.1.4).
    """
    path = shutil.which(argv[0])
    if path is None:
        return list(argv)
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:  # It may be executed all the same.
        return list(argv)
    if head.startswith(b"#!"):
        words = os.fsdecode(head[2:]).partition("\n")[0].split()
        if words and not os.path.exists(words[0]) and not quiet:
            told = f"hourglass: {argv[0]}: its interpreter {words[0]} is not there"
            print(told, file=sys.stderr, flush=True)
        return list(argv)
    is_text = head and b"\0" not in head and not head.startswith(b"\x7fELF")
    return ["/bin/sh", path, *argv[1:]] if is_text else list(argv)
