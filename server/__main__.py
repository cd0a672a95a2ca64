"""`python -m server`: flags and environment become a `Config`, and the server runs with it."""

import argparse
import asyncio
import dataclasses
import gc
import logging
import os
import signal
import sys

from server.app import App
from server.config import Config, ConfigError
from server.store import StoreError

log = logging.getLogger("server")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """Run until SIGTERM or Ctrl-C; 0 then, 1 when the server cannot run, 2 for a bad setting."""
    flags = parser().parse_args()
    try:
        config = Config.from_env(os.environ, **vars(flags))
    except ConfigError as error:
        print(f"hourglass: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        return asyncio.run(serve(config))
    except StoreError as error:
        print(f"hourglass: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{config.host}:{config.port}"
        print(f"hourglass: cannot listen on {where}: {error.strerror}", file=sys.stderr)
    return 1


async def serve(config: Config) -> int:
    """Run a server until it is told to stop, or cannot go on."""
    # What is kept here is in no cycles. Looking for some each few hundred objects found little, and
    # took a fifth of the time of a command.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    # The store's thread waits for the interpreter at each statement; 5 ms, the default, is long.
    sys.setswitchinterval(0.001)
    app = App(config)
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
        log.critical("cannot go on", exc_info=running.exception())
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
    result.add_argument("--host", help="address to listen on (environment: HOST)")
    result.add_argument("--port", type=int, help="port to listen on (environment: PORT)")
    result.add_argument("--database", help="the file that keeps the jobs (environment: DATABASE)")
    return result


if __name__ == "__main__":
    sys.exit(main())
