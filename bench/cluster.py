"""Several servers on one Redis, beside what the peers have for that."""

import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.crowd import Crowd
from bench.loads import WINDOW, fresh, kill, part, start
from bench.report import Table, medians, spread
from bench.rivals import CORES, Hourglass, Missing, Node, Rival, Stock

DASHBOARDS = 50
RATE = 100
"""Starts a second."""
SECONDS = 4
WARM_UP = 1.0
SILENCE = 3.0
"""Seconds without an event after which no more will come."""

ABOUT = """Redis with its append-only file on (`everysec`), two servers and the clients, all on the
{cores} cores of this machine; {medians}. A job is started on one server, and {dashboards}
dashboards hear of it on the other, {rate} a second for {seconds} s. Then the same again, and
half-way every connection of Redis is killed once, with `CLIENT KILL`: what a dashboard never hears
of is lost, and the pause is the longest time in which nothing came."""
ALONE = """Hourglass alone: starts answered a second with {window} under way, on one and on two
servers that share the cores with Redis and the clients; and what a job that is started and killed
costs in Redis, {rate} a second, so that hardly anything goes out together: commands that the
servers send (scripts and reads of the feed), and bytes in and out."""


class OnRedis(Rival):
    """A server that is one of several."""

    cores = ",".join(map(str, CORES))
    redis = 0

    def environ(self) -> Mapping[str, str]:
        return {**super().environ(), "REDIS_URL": f"redis://127.0.0.1:{self.redis}/0"}


class SharedHourglass(OnRedis, Hourglass):
    pass


class SharedStock(OnRedis, Stock):
    name = "python-socketio, `AsyncRedisManager`"


class SharedNode(OnRedis, Node):
    name = "Node, Redis streams adapter"


class Redis(Rival):
    """The Redis of one measurement."""

    cores = OnRedis.cores

    def argv(self) -> list[str]:
        folder = self.scratch / f"redis-{self.port}"
        folder.mkdir()
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder))
        return ["redis-server", *where, "--appendonly", "yes", "--save", ""]

    def call(self, *command: str) -> str:
        """Give it a command; what it answers, which must be short or end with an empty line."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(" ".join(command).encode() + b"\r\n")
            answer = connection.recv(2**16)
            while answer.startswith(b"$") and not answer.endswith(b"\r\n\r\n"):
                answer += connection.recv(2**16)
        return answer.decode()

    def spent(self) -> tuple[int, int]:
        """The commands that clients have sent, and the bytes in and out."""
        told = {}
        for line in self.call("INFO", "everything").splitlines():
            name, _, value = line.partition(":")
            told[name] = value
        stats = (told.get(f"cmdstat_{name}", "calls=0") for name in ("evalsha", "xread"))
        number = sum(int(stat.partition("calls=")[2].partition(",")[0]) for stat in stats)
        return number, int(told["total_net_input_bytes"]) + int(told["total_net_output_bytes"])


@contextmanager
def serving(kind: type[OnRedis], number: int, scratch: Path) -> Iterator[tuple[Redis, list[Rival]]]:
    """Some servers of a kind, with a Redis of their own."""
    redis = Redis(scratch)
    redis.start()
    servers: list[Rival] = []
    try:
        for _ in range(number):
            server = kind(scratch)
            server.install()
            server.redis = redis.port
            servers.append(server)
            server.start()
        yield redis, servers
    finally:
        for started in servers:
            started.stop()
        redis.stop()


@contextmanager
def crowds(servers: list[Rival], dashboards: Callable[[int], int]) -> Iterator[list[Crowd]]:
    """The clients of each server."""
    found: list[Crowd] = []
    try:
        for index, server in enumerate(servers):
            found.append(Crowd(server.door, server.port, dashboards(index)))
        for crowd, server in zip(found, servers, strict=True):
            crowd.settle(server.settles)
            crowd.mark()
        yield found
    finally:
        for crowd in found:
            crowd.close()


def commands(number: int, scratch: Path) -> float:
    """Starts that are answered in a second, over so many servers."""
    with (
        serving(SharedHourglass, number, scratch) as (_, servers),
        crowds(servers, lambda _: 0) as clients,
    ):
        sent = [0] * number
        for seconds in (WARM_UP, SECONDS):
            begun, before = time.perf_counter(), sum(crowd.answered for crowd in clients)
            while time.perf_counter() - begun < seconds:
                for index, crowd in enumerate(clients):
                    if room := WINDOW // number - (sent[index] - crowd.answered):
                        frames = (start(servers[index], fresh()) for _ in range(room))
                        crowd.send(b"".join(frames))
                        sent[index] += room
                    crowd.read()
            took = time.perf_counter() - begun
        return (sum(crowd.answered for crowd in clients) - before) / took


def cost(number: int, scratch: Path) -> tuple[float, float]:
    """The commands and the bytes that a job costs in Redis, over so many servers."""
    with (
        serving(SharedHourglass, number, scratch) as (redis, servers),
        crowds(servers, lambda _: 1) as clients,
    ):
        jobs = RATE * SECONDS // 2
        idle = redis.spent()
        clients[0].settle(SECONDS)
        begun, idled = redis.spent(), redis.spent()
        for index in range(jobs):
            due = time.perf_counter() + 1 / RATE
            name = fresh()
            clients[0].send(start(servers[0], name))
            clients[0].until(2 * index + 1)
            clients[0].send(kill(servers[0], name))
            clients[0].until(2 * index + 2)
            while time.perf_counter() < due:
                clients[0].read()
        took = redis.spent()
        spent = [now - then for now, then in zip(took, begun, strict=True)]
        rest = [now - then for now, then in zip(idled, idle, strict=True)]
        # What the servers say while nothing happens is not the job's.
        share = jobs / RATE / SECONDS
        calls, size = (all - share * quiet for all, quiet in zip(spent, rest, strict=True))
        return calls / jobs, size / jobs


def across(kind: type[OnRedis], scratch: Path) -> tuple[float, float, float, float]:
    """p50 and p99 in ms from a start on one server to the dashboards of the other; then how many of
    the events were lost on the average dashboard, and how long nothing came, in s."""
    with (
        serving(kind, 2, scratch) as (redis, servers),
        crowds(servers, lambda index: DASHBOARDS if index else 0) as (giver, crowd),
    ):
        late = sorted(_tell(servers[0], giver, crowd, None))
        crowd.mark()
        times = _tell(servers[0], giver, crowd, redis)
        heard = sum(client.seen for client in crowd._clients.values()) / DASHBOARDS
        return part(late, 0.5) * 1000, part(late, 0.99) * 1000, RATE * SECONDS - heard, max(times)


def _tell(server: Rival, giver: Crowd, crowd: Crowd, redis: Redis | None) -> list[float]:
    """Start jobs at a rate; how late each was everywhere, or with `redis`, which is to cut all
    lines half-way, the pauses between what came."""
    total = RATE * SECONDS
    begun, sent, cut = time.perf_counter(), 0, False
    quiet, pauses, known = begun, [0.0], 0
    while len(crowd.everywhere) < total and time.perf_counter() - quiet < SILENCE:
        now = time.perf_counter()
        while sent < total and begun + sent / RATE <= now:
            giver.send(start(server, fresh()))
            sent += 1
        if redis is not None and sent >= total // 2 and not cut:
            cut = True
            redis.call("CLIENT", "KILL", "TYPE", "normal")
            redis.call("CLIENT", "KILL", "TYPE", "pubsub")
        giver.read()
        crowd.read()
        if len(crowd.everywhere) > known or sent < total:
            if len(crowd.everywhere) > known:
                pauses.append(now - quiet if redis is not None and cut else 0.0)
            known = len(crowd.everywhere)
            quiet = now
    if redis is not None:
        return pauses
    return [at - begun - index / RATE for index, at in enumerate(crowd.everywhere)]


async def measure(rounds: int, scratch: Path) -> list[Table]:
    """Hourglass and its peers in turns."""
    head = ("", "p50, ms", "p99, ms", f"lost of {RATE * SECONDS}", "pause, s")
    about = ABOUT.format(
        cores=len(CORES), medians=medians(rounds), dashboards=DASHBOARDS, rate=RATE, seconds=SECONDS
    )
    beside = Table("Several servers beside their peers", about, head)
    kinds: list[type[OnRedis]] = [SharedHourglass, SharedStock, SharedNode]
    found: dict[str, list[tuple[float, ...]]] = {kind.name: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            try:
                found[kind.name].append(across(kind, scratch))
            except Missing as missing:
                print(f"{kind.name}: {missing}")
    for name, figures in found.items():
        if figures:
            columns = zip(*figures, strict=True)
            cells = [spread(c, d) for c, d in zip(columns, (1, 1, 0, 2), strict=True)]
            beside.rows.append((name, *cells))
    alone = Table(
        "Several servers on one Redis",
        ALONE.format(window=WINDOW, rate=RATE),
        ("servers", "starts/s", "Redis commands a job", "bytes a job"),
    )
    for number in (1, 2):
        rates = [commands(number, scratch) for _ in range(rounds)]
        costs = [cost(number, scratch) for _ in range(rounds)]
        calls, sizes = (statistics.median(column) for column in zip(*costs, strict=True))
        alone.rows.append((str(number), spread(rates), f"{calls:.1f}", f"{sizes:,.0f}"))
    return [alone, beside]
