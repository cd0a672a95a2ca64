"""What a flood from one address does to all others.

`python -m bench.flood KIND PORT` is the flood.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import aiohttp

from bench.report import Table
from bench.servers import Server
from server.access.auth import issue
from tests.support.wire import masked

SECRET = "the secret of the benchmark and its flood"
OTHERS = 20
INTERVAL = 0.1
"""Seconds between two commands of one of the others."""
SECONDS = 5.0
SETTLE = 1.0
"""Seconds of flood before anything is measured."""
FLOODS = 50
"""Connections that a flood keeps open."""
SETTINGS = {
    "AUTH_SECRET": SECRET,
    "TRUSTED_PROXIES": "1",
    "RATE_LIMIT": "500",
    "RATE_LIMIT_ADDRESS": "1000",
    "CONNECT_RATE": "200",
    "MAX_CONNECTIONS": "10000",
    "MAX_CONNECTIONS_ADDRESS": "1000",
}
"""The defaults, which a server of the benchmark has switched off."""
ABOUT = """{others} clients, each of an address of its own, give {rate:.0f} commands a second each
that start a job anew, and wait for the durable answer, while one address floods the server from a
process of its own as fast as it can, over {floods} connections. Times from when a command was due
to its answer, over {seconds:.0f} s; all limits are the default ones. Server, flood and clients
share the machine's cores."""


async def measure(scratch: Path) -> Table:
    """Each flood against a new server."""
    head = ("flood of", "median, ms", "p99, ms", "max, ms", "refused a second", "server CPU")
    about = ABOUT.format(others=OTHERS, rate=1 / INTERVAL, floods=FLOODS, seconds=SECONDS)
    table = Table("A flood from one address", about, head)
    for kind in ("nothing", *FLOOD):
        path = scratch / f"flood-{kind.replace(' ', '-')}.db"
        async with Server(path, **SETTINGS) as server, flooding(kind, server.port):
            await asyncio.sleep(SETTLE)
            refused, cpu = await refusals(server), server.cpu()
            times = sorted(await serve_others(server.url))
            refused, cpu = await refusals(server) - refused, server.cpu() - cpu
        p99 = times[int(len(times) * 0.99)]
        shown = (statistics.median(times), p99, times[-1])
        cells = [f"{value * 1000:.1f}" for value in shown]
        table.rows.append((kind, *cells, f"{refused / SECONDS:,.0f}", f"{cpu / SECONDS:.0%}"))
    return table


@asynccontextmanager
async def flooding(kind: str, port: int) -> AsyncIterator[None]:
    """A flood, until the end."""
    if kind == "nothing":
        yield
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.flood", kind, str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def refusals(server: Server) -> float:
    """What a server has refused so far."""
    async with aiohttp.ClientSession(server.url) as session:
        headers = {"X-Forwarded-For": "127.0.0.1"}
        async with session.get("/metrics", headers=headers) as response:
            lines = (await response.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("hourglass_refusals_t"))


async def serve_others(url: str) -> list[float]:
    """The seconds that each command of the others took."""
    async with aiohttp.ClientSession(url) as session:
        found = await asyncio.gather(*(other(session, number) for number in range(OTHERS)))
    return [seconds for times in found for seconds in times]


async def other(session: aiohttp.ClientSession, number: int) -> list[float]:
    """Give commands at a steady rate; the seconds that each took."""
    name = f"other-{number}"
    token = issue(SECRET, name, "operator", ["main"], time.time() + 600)
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": f"10.0.0.{number + 1}"}
    times = []
    async with session.ws_connect("/ws?rooms=", headers=headers) as socket:
        begun = time.perf_counter()
        for turn in range(int(SECONDS / INTERVAL)):
            due = begun + (turn + number / OTHERS) * INTERVAL
            await asyncio.sleep(max(0, due - time.perf_counter()))
            fields = {"connid": name, "time": 60, "if_running": "replace"}
            # From when it was due: a server that is stuck holds up the next ones as well.
            await socket.send_str(json.dumps({"route": "request", **fields}))
            answer = await socket.receive_json()
            assert answer["ok"], answer
            times.append(time.perf_counter() - due)
    return times


async def commands(session: aiohttp.ClientSession) -> None:
    """Commands of a client that may watch, many at a time, whose answers are read."""
    token = issue(SECRET, "eve", "viewer", ["main"], time.time() + 600)
    async with session.ws_connect(f"/ws?rooms=&token={token}") as socket:
        reading = asyncio.create_task(read(socket))
        while not reading.done():
            for _ in range(50):
                await socket.send_str('{"route":"status"}')
            await asyncio.sleep(0)


async def read(socket: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in socket:
        pass


async def connects(session: aiohttp.ClientSession) -> None:
    """New WebSockets, one after the other."""
    while True:
        with suppress(aiohttp.ClientError):
            async with session.ws_connect("/socket.io/?EIO=4&transport=websocket") as socket:
                await socket.receive()


async def sign_ins(session: aiohttp.ClientSession) -> None:
    """Requests with tokens that are not valid."""
    for number in count():
        headers = {"Authorization": f"Bearer {number}.e30.eA"}
        with suppress(aiohttp.ClientError):
            async with session.get("/api/jobs", headers=headers) as response:
                await response.read()


async def rubbish(session: aiohttp.ClientSession) -> None:
    """Frames that are events of no known form, whose answers are not read."""
    async with session.ws_connect("/socket.io/?EIO=4&transport=websocket") as socket:
        token = issue(SECRET, "eve", "viewer", ["main"], time.time() + 600)
        await socket.send_str("40" + json.dumps({"token": token, "rooms": []}))
        await pour(socket, masked(1, b'42["explode",{"a":[[[[1]]]]}]') * 100)


async def controls(session: aiohttp.ClientSession) -> None:
    """Pings, and CONNECTs with a token that is not valid, over one session."""
    async with session.ws_connect("/socket.io/?EIO=4&transport=websocket") as socket:
        await pour(socket, (masked(9, b"") + masked(1, b'40{"token":"a.e30.eA"}')) * 50)


async def pour(socket: aiohttp.ClientWebSocketResponse, data: bytes) -> None:
    """Send the same over and over, for as long as the connection is there."""
    transport = socket._writer.transport
    while not socket.closed and not transport.is_closing():
        transport.write(data)
        while transport.get_write_buffer_size() > 2**20:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)


FLOOD: dict[str, Callable[[aiohttp.ClientSession], Awaitable[None]]] = {
    "commands": commands,
    "connects": connects,
    "failed sign-ins": sign_ins,
    "rubbish": rubbish,
    "control messages": controls,
}


async def main(kind: str, port: int) -> None:
    """Flood a server until killed."""

    async def again(session: aiohttp.ClientSession) -> None:
        while True:
            with suppress(aiohttp.ClientError, ConnectionError):
                await FLOOD[kind](session)
            await asyncio.sleep(0.01)

    headers = {"X-Forwarded-For": "6.6.6.6"}
    connector = aiohttp.TCPConnector(limit=0)
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(base, headers=headers, connector=connector) as session:
        await asyncio.gather(*(again(session) for _ in range(FLOODS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
