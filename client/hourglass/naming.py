"""What a job is called when nobody gives it a name: the program that does the work, or its script.

A name is shown to everyone, so it never holds the text of a script that is given as an argument,
where passwords may stand.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

MOST_NAME = 128
"""Characters of a name; the server takes no more."""


@dataclass(frozen=True)
class Wrapper:
    """A program that runs another one."""

    valued: str = ""
    """Its options that take a value which may be the next argument, separated by spaces."""
    before: int = 0
    """How many arguments of its own come before the program."""


WRAPPERS = {
    "env": Wrapper("-u --unset -C --chdir -a --argv0 -S --split-string"),
    "sudo": Wrapper(
        "-u --user -g --group -h --host -p --prompt -C --close-from -r --role -t --type"
        " -T --command-timeout -U --other-user -D --chdir -R --chroot"
    ),
    "doas": Wrapper("-u -C"),
    "nice": Wrapper("-n --adjustment"),
    "ionice": Wrapper("-c --class -n --classdata"),
    "chrt": Wrapper("-T --sched-runtime -P --sched-period -D --sched-deadline", before=1),
    "taskset": Wrapper(before=1),
    "timeout": Wrapper("-k --kill-after -s --signal", before=1),
    "flock": Wrapper("-w --wait --timeout -E --conflict-exit-code", before=1),
    "stdbuf": Wrapper("-i --input -o --output -e --error"),
    "time": Wrapper("-f --format -o --output"),
    "xargs": Wrapper("-a -d -E -I -L -n -P -s"),
    "nohup": Wrapper(),
    "setsid": Wrapper(),
    "chronic": Wrapper(),
    "exec": Wrapper(),
}
INTERPRETERS = {
    "python": "-W -X -Q --check-hash-based-pycs",
    "pypy": "-W -X",
    "node": "-r --require --import --loader --env-file -C --conditions",
    "ruby": "-I -r -E -C",
    "perl": "-I",
    "php": "-d -c -z -t",
    "bash": "-o +o -O +O --rcfile --init-file",
    "zsh": "-o +o",
    "ksh": "-o +o",
    "dash": "-o +o",
    "sh": "-o +o",
}
"""What runs scripts, with the options that take a value, as for `Wrapper`."""
SHELLS = {"bash", "zsh", "ksh", "dash", "sh"}
TEXTS = {
    **dict.fromkeys(SHELLS, "cs"),
    **dict.fromkeys(("python", "pypy"), "c"),
    "node": "ep",
    "ruby": "e",
    "perl": "eE",
    "php": "rBRE",
}
"""The letters of the options that have the script itself come as an argument, or on stdin."""


def name_of(argv: Sequence[str]) -> str:
    """What to call a command; it fits the rules for a connid, whatever the command is."""
    program = ""
    left = list(argv)
    while left:
        program = base(left.pop(0))
        wrapper = WRAPPERS.get(program)
        if wrapper is None:
            return fitting(script_of(program, left) or program)
        left = after_assignments(after_options(left, wrapper.valued.split())[wrapper.before :])
        if left and left[0].startswith("-"):  # An option that we do not know.
            break
    return fitting(program)


def base(path: str) -> str:
    """The last part of a path."""
    return PurePosixPath(path).name or path


def script_of(program: str, args: Sequence[str]) -> str | None:
    """The script or the module that an interpreter is given as a file."""
    found = re.fullmatch(r"([a-z]+)[\d.]*", program)
    kind = found[1] if found and found[1] in INTERPRETERS else None
    if kind is None or holds_text(kind, args):
        return None
    rest = after_options(args, INTERPRETERS[kind].split(), cluster=kind in SHELLS)
    for option in args[: len(args) - len(rest)]:
        if kind in ("python", "pypy") and re.match("-m.", option):
            return option[2:]
    return base(rest[0]) if rest and rest[0] != "-" else None


def holds_text(kind: str, args: Sequence[str]) -> bool:
    """Whether an option says that the script itself is among the arguments."""
    rest = after_options(args, INTERPRETERS[kind].split(), cluster=kind in SHELLS)
    for arg in args[: len(args) - len(rest)]:
        if arg in ("--eval", "--print", "--run"):
            return True
        if re.match(rf"-[A-Za-z]*[{TEXTS[kind]}]", arg) and (kind != "node" or len(arg) <= 3):
            return True
    return False


def after_options(
    args: Sequence[str], valued: Iterable[str], *, cluster: bool = False
) -> Sequence[str]:
    """What follows the options.

    With `cluster` a value follows a group of letters, too: `bash -euo pipefail`.
    """
    taking = set(valued)
    at = 0
    while at < len(args) and args[at][:1] in ("-", "+") and len(args[at]) > 1:
        arg = args[at]
        at += 1
        if arg == "--":
            break
        ends = cluster and re.fullmatch(r"[-+][A-Za-z]+", arg) and f"{arg[0]}{arg[-1]}" in taking
        if arg in taking or ends:
            at += 1
    return args[at:]


def after_assignments(args: Sequence[str]) -> list[str]:
    """What follows the variables that `env` and `sudo` set."""
    at = 0
    while at < len(args) and re.match(r"[A-Za-z_]\w*=", args[at]):
        at += 1
    return list(args[at + (args[at : at + 1] == ["--"]) :])


def fitting(name: str) -> str:
    """A name without what may be in no name, and no longer than one may be."""
    shown = "".join(c if c.isprintable() else "_" for c in name)
    return shown[:MOST_NAME] or "_"


def numbered(name: str, number: int) -> str:
    """The name of another job of the same name: "sleep-2"."""
    end = f"-{number}"
    return name[: MOST_NAME - len(end)] + end
