#!/usr/bin/env bash
# An AsyncClient of python-socketio 5.18.1 loses its connection when one event above 4 MiB comes over a
# WebSocket: the WebSocket is aiohttp's, whose bound for one message is 4 MiB unless it is told another,
# and neither library says so. The synchronous client, on websocket-client, has no such bound. With
# `websocket_extra_options={"max_msg_size": 0}` the event is received.
#
# Prints the versions and what each client heard; fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check \
  python-socketio==5.18.1 python-engineio==4.15.1 aiohttp==3.14.5 \
  websocket-client==1.9.2 requests==2.32.5
cat > "$folder/large.py" <<'PY'
import asyncio
from importlib.metadata import version

import socketio
from aiohttp import web

MIB = 2**20


async def heard_by_async(url, **options):
    client = socketio.AsyncClient(reconnection=False, **options)
    answer = asyncio.get_running_loop().create_future()
    client.on("text", lambda text: answer.set_result(len(text)))
    client.on("disconnect", lambda reason: answer.done() or answer.set_result("disconnected"))
    await client.connect(url, transports=["websocket"])
    await client.emit("go")
    found = await asyncio.wait_for(answer, 20)
    await client.disconnect()
    return found


def heard_by_sync(url):
    with socketio.SimpleClient(reconnection=False) as client:
        client.connect(url, transports=["websocket"])
        client.emit("go")
        return len(client.receive(timeout=20)[1])


async def main():
    size = 5 * MIB
    server = socketio.AsyncServer(async_mode="aiohttp", max_http_buffer_size=16 * MIB)

    @server.on("go")
    async def go(sid):
        await server.emit("text", "x" * size, to=sid)

    app = web.Application()
    server.attach(app)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    told = {"websocket_extra_options": {"max_msg_size": 0}}
    found = {
        "AsyncClient": await heard_by_async(url),
        "AsyncClient, told of no bound": await heard_by_async(url, **told),
        "SimpleClient": await asyncio.to_thread(heard_by_sync, url),
    }
    await runner.cleanup()
    print("python-socketio", version("python-socketio"), "aiohttp", version("aiohttp"))
    print("one event of 5 MiB:", found)
    assert list(found.values()) == ["disconnected", size, size], "this has changed"


asyncio.run(main())
PY
"$python" "$folder/large.py"
