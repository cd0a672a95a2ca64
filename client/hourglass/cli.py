"""The command line: its arguments, and which part does what they say. The manual is docs/cli.md."""

import argparse
import asyncio
import io
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from hourglass import __version__, durations
from hourglass.attach import attach
from hourglass.attempts import attempts
from hourglass.errors import Away, Exit, Refused, SettingsError
from hourglass.executable import executable
from hourglass.files import project_settings, refuse
from hourglass.guard import die
from hourglass.oneshots import extend, history, kill, show, start, status
from hourglass.progress.readers import NAMES
from hourglass.runner import guarded
from hourglass.settings import Settings, to_json
from hourglass.terminal import Terminal, wanted
from hourglass.watch import watch

DEFAULT_TIME = 600.0


def seconds(text: str) -> float:
    """A duration as an argument."""
    try:
        return durations.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def above_zero(text: str) -> float:
    value = seconds(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("it must be above 0")
    return value


def progress_choice(text: str) -> str | re.Pattern[str]:
    """`none`, `auto`, the name of a reader, or a pattern from which `from_match` can tell."""
    if text in ("none", "auto", *NAMES):
        return text
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"it is no regular expression: {error}") from None
    names = set(pattern.groupindex)
    if names and "percent" not in names and not {"done", "total"} <= names:
        raise argparse.ArgumentTypeError("it needs the group percent, or done and total")
    if not pattern.groups:
        raise argparse.ArgumentTypeError(
            f"it needs a group in parentheses for the percent, or to be none, auto or one of: "
            f"{', '.join(NAMES)}"
        )
    return pattern


def count(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, and not below 0")
    return int(text)


class Parser(argparse.ArgumentParser):
    """A parser whose exit code for wrong usage can be chosen: that of `run` is no command's own."""

    usage_exit = Exit.USAGE

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.usage_exit, f"{self.prog}: {message}\n")

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """The options; what no parser knows is an error of the command that it was given to."""
        options, unknown = self.parse_known_args(argv)
        if unknown:
            options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options


def parser() -> Parser:
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    where = common.add_argument_group("the server")
    where.add_argument("--url", help="its address (HOURGLASS_URL; http://127.0.0.1:8000)")
    where.add_argument("--token", help="where tokens are needed; HOURGLASS_TOKEN hides it better")
    where.add_argument("--room", help="the board to be on (HOURGLASS_ROOM; main)")
    where.add_argument(
        "--by", help="your name where no tokens are needed (HOURGLASS_BY; user@host)"
    )
    about = "Run a command as a job that everyone sees and anyone can kill."
    found = Parser(prog="hourglass", description=about, parents=[common])
    found.add_argument("--version", action="version", version=f"hourglass {__version__}")
    commands = found.add_subparsers(dest="what", required=True, metavar="COMMAND")

    def add(name: str, help: str, named: str = "", scripted: bool = True) -> Parser:
        parser: Parser = commands.add_parser(name, help=help, description=help, parents=[common])
        parser.set_defaults(parser=parser)
        if named:
            parser.add_argument("name", metavar="NAME", nargs=named if named == "?" else None)
        if scripted:
            parser.add_argument("--json", action="store_true", help="print the server's answer")
        return parser

    runs = add("run", "Run a command as a job.", scripted=False)
    runs.usage_exit = Exit.NOT_RUN
    runs.add_argument("--name", help="of the job (default: the command's)")
    add_job_options(runs, lease=30.0)
    runs.add_argument(
        "--grace", type=seconds, default=10.0, help="between SIGTERM and SIGKILL (default: 10)"
    )
    runs.add_argument(
        "--patience",
        type=seconds,
        default=10.0,
        help="to wait for an absent server, at the start and at the end (default: 10)",
    )
    runs.add_argument(
        "--report-for",
        type=seconds,
        default=3600.0,
        help="to try in the background to tell it how a command ended (default: 1h; 0 for not)",
    )
    runs.add_argument(
        "--progress",
        type=progress_choice,
        default="auto",
        metavar="none|auto|NAME|REGEX",
        help="how to read progress: not, as it comes, as that of one tool, or by a pattern with a "
        "group percent, or done and total; and note (default: auto)",
    )
    runs.add_argument(
        "--pty",
        action=argparse.BooleanOptionalAction,
        help="give the command a terminal (default: where it had one without us)",
    )
    runs.add_argument(
        "--retry",
        type=count,
        default=0,
        metavar="N",
        help="after a failure try again, so often at the most, each time as a job of its own",
    )
    runs.add_argument(
        "--quiet-ok", action="store_true", help="print what it has printed only if it fails"
    )
    runs.add_argument(
        "--on-fail", metavar="CMD", help="a shell command for when it fails; HOURGLASS_EXIT is why"
    )
    runs.add_argument(
        "--pid", type=count, help="of a process that runs already, in place of a command (Linux)"
    )
    runs.add_argument("-q", "--quiet", action="store_true", help="say nothing on stderr")
    runs.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")

    starts = add("start", "Start a job without a command.", "NAME")
    add_job_options(starts, lease=None)
    starts.add_argument(
        "--key", help="start it once, however often this is tried with the same key"
    )
    kills = add("kill", "Kill a running job.", "NAME")
    kills.add_argument("--run", help="only this run of it")
    kills.add_argument("--reason", help="for everyone to see")
    extends = add("extend", "Give a running job more time.", "NAME")
    extends.add_argument(
        "time", type=above_zero, metavar="TIME", help="how much more: seconds, or like 10m, 2h"
    )
    extends.add_argument("--run", help="only this run of it")
    add("status", "Show what is running.", "?")
    add("watch", "Show the live board, or the output of one job.", "?")
    ended = add("history", "Show what has ended, newest first.", "?")
    ended.add_argument("--limit", type=int, default=20, help="how many (default: 20, at most 500)")
    ended.add_argument("--before", type=int, metavar="SEQ", help="the next page")
    return found


def add_job_options(parser: Parser, *, lease: float | None) -> None:
    """Of a run, which has a `lease` unless it is told otherwise, or of a job without a command."""
    parser.add_argument(
        "--time",
        type=above_zero,
        required=lease is None,
        help="how long it may run: seconds, or like 10m, 2h" + (" (default: 600)" if lease else ""),
    )
    parser.add_argument(
        "--lease",
        type=seconds,
        default=lease,
        help="seconds without a word after which it is taken for lost"
        + (" (default: 30; 0 for never)" if lease else ""),
    )
    parser.add_argument("--note", help="for everyone to see")
    parser.add_argument(
        "--if-running",
        choices=("reject", "keep", "replace"),
        default="reject",
        help="what to do when the name is running already (default: reject)",
    )


def one_run(options: argparse.Namespace, settings: Settings) -> int:
    """Run the command, or follow the process; the exit code, or below 0 the signal it died of."""
    if options.pid is not None:
        return asyncio.run(attach(options, settings))
    options.command = executable(options.command, options.quiet)
    return guarded(options, settings, Terminal() if wanted(options.pty) else None)


def check_usage(options: argparse.Namespace) -> None:
    """See that a run has a command or a process, and nothing that does not go with it."""
    if options.command[:1] == ["--"]:
        del options.command[0]
    if options.pid is None and not options.command:
        options.parser.error("which command? hourglass run -- COMMAND …")
    if options.pid is not None and options.command:
        options.parser.error("either --pid or a command")
    if options.pid is not None and (options.retry or options.quiet_ok):
        options.parser.error("--retry and --quiet-ok need a command")


def add_defaults(options: argparse.Namespace, project: Mapping[str, str]) -> None:
    """Take what no flag says of a run from its project, or from what most runs want."""
    options.note = options.note or project.get("note")
    if options.time is None and "time" in project:
        try:
            options.time = above_zero(project["time"])
        except argparse.ArgumentTypeError as error:
            warn(f".hourglass.toml: time: {error}")
    options.time = options.time or DEFAULT_TIME


def warn(problem: str) -> None:
    """Say what is not as it should be, and keep nobody from working."""
    print(f"hourglass: {problem}, so that is ignored", file=sys.stderr)


ONE_SHOTS = {"start": start, "kill": kill, "extend": extend, "status": status, "history": history}


def main() -> int:
    """Do what the arguments say; the exit code."""
    for fd in (0, 1, 2):  # A pipe of ours must not get the place of one that is closed.
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = parser().parse()
    running = options.what == "run"
    if running:
        check_usage(options)
    try:
        complain = warn if running else refuse
        settings = Settings.load(vars(options), os.environ, complain)
        if running:
            add_defaults(options, project_settings(lambda problem: None))
            code = attempts(options, lambda: one_run(options, settings))
            return die(-code) if code < 0 else code
        if options.what == "watch":
            return asyncio.run(watch(options, settings))
        answer = asyncio.run(ONE_SHOTS[options.what](options, settings))
        print(to_json(answer)) if options.json else show(answer)
        sys.stdout.flush()
        return Exit.DONE
    except SettingsError as error:
        print(f"hourglass: {error}", file=sys.stderr)
        return Exit.NOT_RUN if running else Exit.USAGE
    except (Away, Refused) as problem:
        if options.json and isinstance(problem, Refused):
            print(to_json(problem.answer))
        print(f"hourglass: {problem}", file=sys.stderr)
        return problem.exit
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # Whoever reads our output has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except OSError as error:  # A full disk, say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(f"hourglass: cannot write: {error.strerror}", file=sys.stderr)
        return Exit.FAILED
