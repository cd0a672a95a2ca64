"""What a server holds in memory for those who make it hold as much as they can."""

import asyncio
import json
import math
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import islice
from pathlib import Path

from aiohttp import WSMsgType
from msgspec import Raw
from msgspec.structs import replace

from bench.report import Table
from bench.servers import DAY, Server, job, uncapped
from server.contract.messages import Job, encode
from server.store.embedded.store import EmbeddedStore
from server.store.interface import EndJob, FinishDetails, Listener, StartJob
from tests.support.wire import REQUEST, masked

CLIENTS = 1000
ROOMS = 10_000
RUNS = 20_000
NOTE = "🐢" * 500
RESULT = encode({"text": "x" * 4000})
ENDED = 50
ROUND = 2000
VANISHING = 60
RETURNING = 80
LARGE = 2**16
"""Bytes that no message has but a snapshot."""
JOBS = 4000
"""Running jobs of the snapshot, of 2.2 kB each."""
SOCKETIO = b"/socket.io/?EIO=4&transport=websocket"
TIMES = 3
"""How often those come who leave again."""
GONE_AFTER = 0.3

ABOUT = """Resident memory of a server with the default settings but for the limits of rates and
connections, before and after: {clients:,} clients that read nothing of a snapshot of {jobs:,} jobs,
2.2 kB each, over WebSockets, long polling and `/ws` in turn; {vanishing} at a time that are gone
within 0.3 s of asking for it; {returning} dashboards that come back at once and read it;
{clients:,} clients without a token that begin a message of 200 kB and do not end it; as many that
do not finish a POST;
{rooms:,} rooms with {ended} ended jobs each, of 4 kB; {runs:,} jobs that print 64 kB
of emoji, or nothing at all. The bound is that of the share of `MEMORY_BUDGET` which
each may take; what is beyond it is what Python and the connections take besides."""


async def measure(scratch: Path, scale: float = 1.0, ways_named: str = "") -> Table:
    """A row for each way whose name has this; `scale` makes all of them smaller, to try them."""
    clients, rooms, runs = (int(scale * number) for number in (CLIENTS, ROOMS, RUNS))
    vanishing, returning, large = (math.ceil(scale * n) for n in (VANISHING, RETURNING, JOBS))
    about = ABOUT.format(
        clients=clients,
        jobs=large,
        vanishing=vanishing,
        returning=returning,
        rooms=rooms,
        ended=ENDED,
        runs=runs,
    )
    head = ("what", "share, MiB", "before, MiB", "after, MiB", "at most, MiB")
    table = Table("Memory held for others", about, head)
    now = time.time()
    jobs = [replace(job(n, "main", now, now + DAY), note=NOTE) for n in range(large)]
    many = [job(number, f"room-{number % 50}", now, now + DAY) for number in range(runs)]
    ways: list[tuple[str, int, list[Job], int, Callable[[Server], Awaitable[int]]]] = [
        ("stalled readers", 64, jobs, 0, lambda server: stalled(server, clients)),
        ("readers that vanish", 64, jobs, 0, lambda server: vanish(server, vanishing)),
        ("dashboards that return", 64, jobs, 0, lambda server: come_back(server, returning)),
        ("unfinished messages", 64, [], 0, lambda server: unfinished(server, clients)),
        ("unfinished POSTs", 64, [], 0, lambda server: posts(server, clients)),
        ("ended jobs", 32, [], rooms, lambda server: look(server, rooms)),
        ("output of emoji", 16, many, 0, lambda server: output(server, many, "🐢" * 16_000)),
        ("empty output", 16, many, 0, lambda server: output(server, many, "")),
    ]
    for number, (name, share, running, ended, fill) in enumerate(ways):
        if ways_named not in name:
            continue
        database = scratch / f"held-{number}.db"
        await prepare(database, running, ended)
        async with Server(database) as server:
            before = server.memory()
            figures = (before, await fill(server), server.memory("VmHWM"))
        table.rows.append((name, f"{share}", *(f"{size / 2**20:.0f}" for size in figures)))
        database.unlink()
    return table


async def prepare(database: Path, running: list[Job], rooms: int) -> None:
    """A file in which these jobs are running, and as many rooms have ended jobs."""
    store = EmbeddedStore(uncapped(database))
    await store.open(Listener())
    writing = asyncio.create_task(store.run())
    changes = (StartJob(each) for each in running)
    while crowd := list(islice(changes, ROUND)):
        for completion in [store.submit(change) for change in crowd]:
            await completion
    for room in range(rooms):
        completions = []
        for number in range(ENDED):
            each = job(number, f"room-{room}", time.time(), time.time() + DAY)
            how = FinishDetails(each.run, "done", Raw(RESULT))
            end = EndJob(each.room, each.connid, each.started_at, how)
            completions += [store.submit(StartJob(each)), store.submit(end)]
        for completion in completions:
            await completion
    await store.close()
    writing.cancel()


async def connected(
    stack: AsyncExitStack, server: Server, buffer: int = 4096
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection for which the kernel keeps so little unread; as much as it likes where 0."""
    door = socket.socket()
    if buffer:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    door.connect(("127.0.0.1", server.port))
    reader, writer = await asyncio.open_connection(sock=door, limit=2**24)
    stack.callback(drop, reader, writer)
    return reader, writer


async def opened(
    stack: AsyncExitStack, server: Server, rest: bytes = b"", path: bytes = b"/ws?rooms="
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket that has sent this."""
    reader, writer = await connected(stack, server)
    writer.write(REQUEST.replace(SOCKETIO, path) + rest)
    return reader, writer


async def stalled(server: Server, number: int) -> int:
    """Have clients connect that never read."""
    async with AsyncExitStack() as stack:
        for count in range(number):
            await (joined, polls, joined_plain)[count % 3](stack, server)
            await asyncio.sleep(0.005)
        return await settled(server)


async def joined(stack: AsyncExitStack, server: Server) -> None:
    """A dashboard that is let in, and reads nothing."""
    _, writer = await opened(stack, server, b"", SOCKETIO)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(masked(WSMsgType.TEXT, b"40{}"))


async def joined_plain(stack: AsyncExitStack, server: Server) -> None:
    """The same at `/ws`."""
    _, writer = await opened(stack, server, b"", b"/ws")
    writer.transport.pause_reading()  # type: ignore[attr-defined]


async def polls(stack: AsyncExitStack, server: Server) -> None:
    """The same over long polling, in the middle of its poll."""
    reader, writer = await connected(stack, server)
    path = "/socket.io/?EIO=4&transport=polling"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    sid = json.loads((await response(reader))[1:])["sid"]
    writer.write(f"POST {path}&sid={sid} HTTP/1.1\r\nHost: x\r\n".encode())
    writer.write(b"Content-Length: 4\r\n\r\n40{}")
    await response(reader)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(f"GET {path}&sid={sid} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def response(reader: asyncio.StreamReader) -> bytes:
    """The body of the next response."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    return await reader.readexactly(int(size.split()[1]))


async def vanish(server: Server, number: int) -> int:
    """Have clients ask for a snapshot, and leave before they have it."""
    for _ in range(TIMES):
        async with AsyncExitStack() as stack:
            await asyncio.gather(*(joined(stack, server) for _ in range(number)))
            await asyncio.sleep(GONE_AFTER)
        await settled(server)
    return await settled(server)


async def come_back(server: Server, number: int) -> int:
    """Have clients ask for a snapshot at once, and read it."""

    async def read(stack: AsyncExitStack) -> None:
        """Once more when the connection is cut, as a dashboard does."""
        while True:
            reader, writer = await connected(stack, server, buffer=0)
            writer.write(REQUEST + masked(WSMsgType.TEXT, b"40{}"))
            with suppress(EOFError, ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                while await swallow(reader) < LARGE:
                    pass
                return
            await asyncio.sleep(GONE_AFTER)

    for _ in range(TIMES):
        async with AsyncExitStack() as stack:
            await asyncio.gather(*(read(stack) for _ in range(number)))
        await settled(server)
    return await settled(server)


async def swallow(reader: asyncio.StreamReader) -> int:
    """Read the next message and forget it; its size."""
    size = left = await size_of_message(reader)
    while left:
        left -= len(await reader.readexactly(min(left, 2**16)))
    return size


async def unfinished(server: Server, number: int) -> int:
    """Have clients begin a message."""
    message = masked(WSMsgType.TEXT, b"x" * 200_000)[:-1]
    async with AsyncExitStack() as stack:
        for count in range(number):
            path = b"/ws" if count % 2 else SOCKETIO
            await opened(stack, server, message, path)
            await asyncio.sleep(0.001)
        return await settled(server)


async def posts(server: Server, number: int) -> int:
    """Have clients post a command but for its last byte."""
    head = b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
    async with AsyncExitStack() as stack:
        for _ in range(number):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(drop, reader, writer)
            writer.write(head + b" " * 59_999)
            await asyncio.sleep(0.001)
        return await settled(server)


def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Cut a connection, whose reader must live as long."""
    writer.transport.abort()


async def look(server: Server, rooms: int) -> int:
    """Look at the snapshot of every room."""
    async with commands(server) as ask:
        for room in range(rooms):
            await ask(b'{"route":"join","room":"room-%d"}' % room)
            await ask(b'{"route":"leave","room":"room-%d"}' % room)
    return server.memory()


async def output(server: Server, jobs: list[Job], text: str) -> int:
    """Have jobs print."""
    async with commands(server) as ask:
        for each in jobs:
            what = {"route": "output", "room": each.room, "connid": each.connid, "run": each.run}
            await ask(encode({**what, "text": text}))
    return server.memory()


@asynccontextmanager
async def commands(server: Server) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    """What gives a command and waits for its answer."""
    async with AsyncExitStack() as stack:
        reader, writer = await opened(stack, server)
        await reader.readuntil(b"\r\n\r\n")

        async def ask(command: bytes) -> None:
            writer.write(masked(WSMsgType.TEXT, command))
            while b'"ok":' not in await message(reader):
                pass

        yield ask


async def message(reader: asyncio.StreamReader) -> bytes:
    """The next message of a server."""
    return await reader.readexactly(await size_of_message(reader))


async def size_of_message(reader: asyncio.StreamReader) -> int:
    """Read the head of the next message."""
    size = (await reader.readexactly(2))[1]
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    return size


async def settled(server: Server) -> int:
    """Wait until a server answers again; the memory that it has then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return server.memory()
