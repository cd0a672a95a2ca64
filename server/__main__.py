"""`python -m server`: flags and environment become a `Config`, and the server runs with it.

`python -m server token` prints a token for those who are to be let in, and
`python -m server backup` copies the file while a server has it.
"""

import argparse
import asyncio
import dataclasses
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable

from server import __version__
from server.access.auth import ROLES, issue
from server.app import App
from server.audit import AuditRecord
from server.config import RENAMED, Config, ConfigError, renamed_settings
from server.errors import Unauthorized
from server.monitoring.process_log import set_up
from server.monitoring.sink import hold_standard_files
from server.store.embedded.backup import back_up
from server.store.interface import StoreError

log = logging.getLogger("server")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
DAY = 86_400
MOST_DAYS = 3650
SPARE_FILES = 64
"""Open files that the server needs beside its connections."""


def main() -> int:
    """Do what the command line says; the exit code, 2 for a bad setting or flag."""
    flags = parser().parse_args()
    try:
        return COMMANDS[flags.command](flags)
    except ConfigError as error:
        print(f"hourglass: {error}", file=sys.stderr)
        return 2
    except StoreError as error:
        print(f"hourglass: {error}", file=sys.stderr)
        return 1


def print_token(flags: argparse.Namespace) -> int:
    """Print a token that the first of the secrets signs."""
    secrets = Config(auth_secret=os.environ.get("AUTH_SECRET", "")).secrets
    if not secrets:
        raise ConfigError("AUTH_SECRET is not set: a token is signed with the secret of the server")
    if not 0 < flags.days <= MOST_DAYS:
        raise ConfigError(f"--days must be above 0 and at most {MOST_DAYS}")
    try:
        until = time.time() + flags.days * DAY
        print(issue(secrets[0], flags.name, flags.role, flags.room or ["main"], until))
    except Unauthorized as error:
        raise ConfigError(error.message) from None
    return 0


def back_up_file(flags: argparse.Namespace) -> int:
    """Copy the file that a server has, or had. Raises `StoreError`."""
    config = Config.from_env(os.environ, database=flags.database)
    if config.redis_url or config.database == ":memory:":
        raise ConfigError("nothing to back up: set DATABASE to a file, and leave out REDIS_URL")
    size = back_up(config.database, flags.file)
    print(f"{flags.file}: {size} bytes")
    return 0


def run_server(flags: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C; 0 then, 1 when the server cannot run."""
    config = Config.from_env(os.environ, host=flags.host, port=flags.port, database=flags.database)
    hold_standard_files()
    on_change = set_up(config)
    raise_file_limit(config)
    for old in renamed_settings(os.environ):
        log.warning("%s is now called %s: the old name still works", old, RENAMED[old])
    if "DYNO" in os.environ and not config.redis_url:
        log.warning(
            "the disk of this dyno does not last, so a restart forgets all jobs: add a key-value"
            " store, which sets REDIS_URL"
        )
    try:
        return asyncio.run(serve(config, on_change))
    except OSError as error:
        where = f"{config.host}:{config.port}"
        print(f"hourglass: cannot listen on {where}: {error.strerror}", file=sys.stderr)
    return 1


def raise_file_limit(config: Config) -> None:
    """Let the process have as many open files as it may, and say when that is too few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if 0 <= most < config.max_connections + SPARE_FILES:
        log.warning(
            "this process may have %d open files, too few for MAX_CONNECTIONS=%d: raise the limit"
            " (`ulimit -n`), or lower the setting",
            most,
            config.max_connections,
        )


async def serve(config: Config, on_change: Callable[[AuditRecord], None] | None) -> int:
    """Run a server until it is told to stop, or cannot go on."""
    # What is kept here is in no cycles. Looking for some each few hundred objects found little, and
    # took a fifth of the time of a command.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    # The store's thread waits for the interpreter at each statement; 5 ms, the default, is long.
    sys.setswitchinterval(0.001)
    app = App(config, on_change=on_change)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Not by `add_signal_handler`: when the loop is closed it would undo `SIG_IGN` below.
    for signum in SIGNALS:
        signal.signal(signum, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        return await run(app, stop)
    finally:
        # Told once more on its way out, it would die of the signal after a clean end.
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)


async def run(app: App, stop: asyncio.Event) -> int:
    """Start a server, and stop it when it is told to or cannot go on; the exit code."""
    await app.start()
    print(f"Hourglass is on {app.url}", flush=True)
    stopping = asyncio.create_task(stop.wait())
    running = asyncio.create_task(app.wait())
    await asyncio.wait([stopping, running], return_when=asyncio.FIRST_COMPLETED)
    failed = running.done()
    if failed:
        log.critical("fatal error: the server stops", exc_info=running.exception())
    running.cancel()
    stopping.cancel()
    await app.stop()
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    """The flags; every other setting is an environment variable, listed below them."""
    lines = [
        f"  {item.name.upper():18} {item.metadata['help']} ({item.metadata['unit']};"
        f" default {item.default!r})"
        for item in dataclasses.fields(Config)
    ]
    result = argparse.ArgumentParser(
        prog="python -m server",
        description="Hourglass shows a team everything that is running, and lets anyone stop it.",
        epilog="environment:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--version", action="version", version=f"hourglass {__version__}")
    result.add_argument("--host", help="address to listen on (environment: HOST)")
    result.add_argument("--port", type=int, help="port to listen on (environment: PORT)")
    result.add_argument("--database", help="the file that keeps the jobs (environment: DATABASE)")
    commands = result.add_subparsers(dest="command", title="commands", metavar="")
    token = commands.add_parser(
        "token",
        help="print a token for a person or a program, signed with AUTH_SECRET",
    )
    token.add_argument("--name", required=True, help="the name that others see")
    token.add_argument(
        "--role", choices=ROLES, default="viewer", help="viewer watches, operator starts and kills"
    )
    token.add_argument(
        "--room",
        action="append",
        help="a room that it opens, or a pattern such as 'ops-*'; may be repeated (default: main)",
    )
    token.add_argument("--days", type=float, default=30, help="until it runs out (default: 30)")
    backup = commands.add_parser(
        "backup", help="copy the file of DATABASE to another one, while the server runs or not"
    )
    backup.add_argument("file", metavar="FILE", help="the copy; there must be no such file yet")
    return result


COMMANDS: dict[str | None, Callable[[argparse.Namespace], int]] = {
    None: run_server,
    "token": print_token,
    "backup": back_up_file,
}


if __name__ == "__main__":
    sys.exit(main())
