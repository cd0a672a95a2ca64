"""A dashboard in Python that prints what it hears: see `README.md`.

client.py sync|async|simple
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import socketio

URL, TRANSPORTS = os.environ["URL"], [os.environ["TRANSPORT"]]
since: dict[str, Any] = {}


def auth() -> dict[str, Any]:
    """What it says each time it connects."""
    token = Path(os.environ["TOKEN_FILE"]).read_text()
    return {"token": token, "rooms": ["main"], "since": {"main": since} if since else {}}


def hear(name: str, event: dict[str, Any]) -> None:
    """Print an event, and remember the position that it brings."""
    if name == "snapshot":
        print("snapshot", flush=True)
        since.update(epoch=event["epoch"], seq=event["seq"])
    elif name == "started":
        print(f"started {event['job']['connid']}\n", end="", flush=True)
        since["seq"] = max(since["seq"], event["seq"])
    elif name == "closing":
        print("closing", event["code"], flush=True)


def run_sync() -> None:
    # It hears each event in a thread of its own: they may overtake each other.
    client = socketio.Client()
    client.on("*", hear)
    client.connect(URL, auth=auth, transports=TRANSPORTS)
    client.wait()


async def run_async() -> None:
    client = socketio.AsyncClient()
    client.on("*", hear)
    await client.connect(URL, auth=auth, transports=TRANSPORTS)
    await client.wait()


def run_simple() -> None:
    with socketio.SimpleClient() as client:
        client.connect(URL, auth=auth, transports=TRANSPORTS)
        while True:
            hear(*client.receive())


if __name__ == "__main__":
    if sys.argv[1] == "async":
        asyncio.run(run_async())
    else:
        {"sync": run_sync, "simple": run_simple}[sys.argv[1]]()
