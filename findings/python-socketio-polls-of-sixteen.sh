#!/usr/bin/env bash
# A client of python-socketio 5.18.1 over long polling takes at most 16 packets in one poll, and leaves
# where there are more; a server of the same version answers a poll with all that waits. So 40 events
# that are emitted at once cost a stock client of a stock server its connection.
#
# Prints the versions and what each client heard; fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check \
  python-socketio==5.18.1 python-engineio==4.15.1 aiohttp==3.14.5
cat > "$folder/client.py" <<'PY'
import asyncio
import sys

import socketio


async def main(url, number):
    client = socketio.AsyncClient(reconnection=False)
    heard = []
    client.on("*", lambda name, *args: heard.append(args))
    await client.connect(url, transports=["polling"])
    await client.emit("go", number)
    for _ in range(50):
        await asyncio.sleep(0.1)
        if not client.connected or len(heard) == number:
            break
    print("connected" if client.connected else "disconnected")
    await client.disconnect()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
PY
cat > "$folder/server.py" <<'PY'
import asyncio
import sys
from importlib.metadata import version

import socketio
from aiohttp import web


async def main():
    server = socketio.AsyncServer(async_mode="aiohttp")

    @server.on("go")
    async def go(sid, number):
        for count in range(number):
            await server.emit("event", count, to=sid)

    app = web.Application()
    server.attach(app)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    found = []
    for number in (15, 40):
        client = await asyncio.create_subprocess_exec(
            sys.executable, sys.argv[1], url, str(number), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await client.communicate()
        found.append(output.decode().strip())
        print(f"{number} events at once: {found[-1]}")
    print("python-socketio", version("python-socketio"), "python-engineio", version("python-engineio"))
    return found != ["connected", "disconnected"]


sys.exit(asyncio.run(main()))
PY
"$python" "$folder/server.py" "$folder/client.py"
