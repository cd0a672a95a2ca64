"""Run the protocol suites of Socket.IO against a plain server with our driver.

    python scripts/protocol_suites.py DIR

DIR is a checkout of the repository socketio/socket.io. The suites want port 3000 of localhost.
"""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import socketio
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent.parent))

from server.transport.driver import install

SUITES = ("docs/engine.io-protocol/v4-test-suite", "docs/socket.io-protocol/v5-test-suite")
PORT = 3000


def plain_server() -> socketio.AsyncServer:
    """A server with the settings that the suites expect, and the driver."""
    sio = socketio.AsyncServer(
        async_mode="aiohttp",
        ping_interval=0.3,
        ping_timeout=0.2,
        always_connect=True,
        namespaces=["/", "/custom"],
    )
    install(sio)
    return sio


def socketio_server() -> socketio.AsyncServer:
    """Tells clients what they have connected with, and sends back what it is sent."""
    sio = plain_server()

    def answer(namespace: str) -> None:
        async def connect(sid: str, environ: Any, auth: Any = None) -> None:
            await sio.emit("auth", auth or {}, to=sid, namespace=namespace)

        async def message(sid: str, *args: Any) -> None:
            await sio.emit("message-back", args, to=sid, namespace=namespace)

        sio.on("connect", connect, namespace=namespace)
        sio.on("message", message, namespace=namespace)
        sio.on("message-with-ack", lambda sid, *args: args, namespace=namespace)

    answer("/")
    answer("/custom")
    return sio


def engineio_server() -> socketio.AsyncServer:
    """Sends back each message of Engine.IO."""
    sio = plain_server()
    sio.eio.on("message", sio.eio.send)
    return sio


async def run(folder: Path) -> bool:
    """Install and run one suite; whether all of it has passed."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        # They count in milliseconds, which a busy machine has not always.
        for command in ("npm ci --silent", "npx mocha --retries 2 test-suite.js"):
            process = await asyncio.create_subprocess_shell(command, cwd=copy)
            if await process.wait() != 0:
                return False
    return True


async def main(checkout: Path) -> int:
    """Run all suites; the exit code."""
    app = web.Application()
    socketio_server().attach(app)
    engineio_server().attach(app, "engine.io")
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "localhost", PORT).start()
    passed = [await run(checkout / suite) for suite in SUITES]
    await runner.cleanup()
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]).resolve())))
