"""The memory budget of the process.

Each kind of data has a fixed share of it, so that whoever fills one takes nothing from the others.

What many are sent is held once for all (`Shared`), and counts once: an equal part of it for each
connection that has not been sent all of it.

Bytes of connections are not counted on the fast path, as that would slow down every write. Only
growth is reported (`Budget.grew`), and only on the slow paths: when a client has not taken all at
once, or a message has not arrived whole. The sum of the growth is an upper bound. When it exceeds
the share, the connections are measured; where they hold too much, some are cut: of the address that
holds most, those that have held much for long.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import NamedTuple
from weakref import WeakSet

from server.config import Config
from server.counters import Counts

KINDS = ("unsent", "unfinished", "waiting")
"""What connections hold."""
LITTLE = 1024
"""Bytes of a kind that one connection may hold before `Budget.grew` is told."""
SHARED = 2**16
"""Bytes above which what many are sent is not copied for each of them."""
SLACK = 16
"""A fraction (1 / SLACK) of the share is freed in addition, so that not every byte causes a new
measurement."""
AGAIN = 0.05
"""Seconds between two measurements for those for whom there was no memory."""
SAID_AGAIN = 10.0
"""Seconds between two log lines about connections that are cut."""

log = logging.getLogger(__name__)


class Shares:
    """The share of each kind, in bytes."""

    def __init__(self, config: Config) -> None:
        self.connections = config.memory_budget // 2
        self.ended = config.memory_budget // 4
        self.replay = config.memory_budget // 8
        self.output = config.memory_budget // 8


class Shared:
    """Bytes that are sent to any number of connections, and held once for all of them."""

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: memoryview) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)


class Holding(NamedTuple):
    """What one connection holds, in bytes."""

    address: str
    """The address that it is counted for."""
    since: float
    """Since when it holds something, by the clock of the `Budget`."""
    cut: Callable[[], None]
    """Cuts the connection, and frees what it holds."""
    unsent: int = 0
    """What the client has not read."""
    unfinished: int = 0
    """What has arrived of messages that are not whole."""
    waiting: int = 0
    """Whole messages that wait for their turn."""
    shared: Collection[Shared] = ()
    """What else it has not read, and others have not either."""
    part: int = 0
    """Its part of that, in bytes."""

    @property
    def size(self) -> int:
        """The sum of all kinds."""
        return self.unsent + self.part + self.unfinished + self.waiting

    @property
    def kinds(self) -> dict[str, int]:
        """The bytes of each of `KINDS`."""
        return dict(
            zip(KINDS, (self.unsent + self.part, self.unfinished, self.waiting), strict=True)
        )


class Budget:
    """Keeps what all connections hold within their share."""

    def __init__(self, config: Config, clock: Callable[[], float], counts: Counts) -> None:
        """`clock` only goes forward, in seconds."""
        self.total = config.memory_budget
        """All that may be held, in bytes."""
        self.share = Shares(config).connections
        """The part of it for connections."""
        self._patience = config.hold_timeout
        self._clock = clock
        self._counts = counts
        counts.cuts.update(dict.fromkeys(KINDS, 0))
        self._sources: list[Callable[[], Iterable[Holding]]] = []
        # At least what is held, and from where on it is measured again.
        self._held = 0
        # What is shared and in there.
        self._shared: WeakSet[Shared] = WeakSet()
        self._most = self.share
        self._measured_at = -AGAIN
        self._said_at = -SAID_AGAIN

    def watch(self, source: Callable[[], Iterable[Holding]]) -> None:
        """Measure a part of the server, too."""
        self._sources.append(source)

    def grew(self, size: int) -> None:
        """Report that `size` more bytes are held. Bytes that are freed need not be reported."""
        self._held += size
        if self._held > self._most:
            held, sharing = self._measure()
            slack = self.share // SLACK
            # One always stays: alone it may need more than the share.
            order = islice(by_weight(held, self._clock()), max(0, len(held) - 1))
            self._cut(order, self._held - (self.share - slack), sharing)
            self._most = max(self.share, self._held + slack)

    def admits_shared(self, body: Shared) -> bool:
        """Whether one more connection may be sent this; then it counts from now on.

        That connections have to be cut for it is told as by `admits`.
        """
        if len(body) <= SHARED:
            return len(body) <= LITTLE or self.admits(len(body))
        if body not in self._shared:
            if not self.admits(len(body)):
                return False
            self._shared.add(body)
            self._held += len(body)
        return True

    def admits(self, size: int) -> bool:
        """Whether `size` more bytes may be held; stalled connections are cut to make room.

        More than the whole share is admitted where nothing else is held, or it could never be sent.
        """
        most = self.share - min(size, self.share)
        now = self._clock()
        if self._held > most and now - self._measured_at >= AGAIN:
            held, sharing = self._measure()
            stalled = [holding for holding in held if now - holding.since >= self._patience]
            self._cut(by_weight(stalled, now), self._held - most, sharing)
        return self._held <= most

    def kinds(self) -> dict[str, int]:
        """The bytes that are held of each kind, measured now."""
        held, _ = self._measure()
        return {kind: sum(holding.kinds[kind] for holding in held) for kind in KINDS}

    def _measure(self) -> tuple[list[Holding], Counter[Shared]]:
        """What is held for each connection, and how many share each body."""
        every = [holding for source in self._sources for holding in source()]
        sharing = Counter(body for holding in every for body in holding.shared)
        held = [divided(each, sharing) for each in every if each.size or each.shared]
        self._held = sum(holding.size for holding in held)
        self._shared = WeakSet(sharing)
        self._measured_at = self._clock()
        return held, sharing

    def _cut(self, order: Iterable[Holding], surplus: int, sharing: Counter[Shared]) -> None:
        """Cut connections in this order, until `surplus` bytes are freed."""
        number = 0
        for holding in order:
            if surplus <= 0:
                break
            freed = holding.size - holding.part
            sharing.subtract(holding.shared)
            # Only when the last of them is gone.
            freed += sum(len(body) for body in set(holding.shared) if not sharing[body])
            surplus -= freed
            self._held -= freed
            self._counts.cuts[max(KINDS, key=holding.kinds.__getitem__)] += 1
            holding.cut()
            number += 1
        if number and self._clock() - self._said_at >= SAID_AGAIN:
            self._said_at = self._clock()
            log.warning(
                "closing connections: they hold more than MEMORY_BUDGET=%d allows", self.total
            )


def divided(holding: Holding, sharing: Mapping[Shared, int]) -> Holding:
    """A holding with its part of what it shares, given how many share each."""
    if not holding.shared:
        return holding
    return holding._replace(part=sum(len(body) // sharing[body] for body in holding.shared))


def by_weight(held: Iterable[Holding], now: float) -> Iterator[Holding]:
    """The connections in the order in which to cut them: each time, of the address that holds most,
    the connection that has held most for longest."""
    of: dict[str, list[Holding]] = {}
    for holding in held:
        of.setdefault(holding.address, []).append(holding)
    for holdings in of.values():
        holdings.sort(key=lambda holding: (holding.size * (now - holding.since), holding.size))
    totals = [(-sum(each.size for each in holdings), address) for address, holdings in of.items()]
    heapify(totals)
    while totals:
        total, address = totals[0]
        holding = of[address].pop()
        if of[address]:
            # What it shares is held for the others of the address as before.
            heapreplace(totals, (total + holding.size - holding.part, address))
        else:
            heappop(totals)
        yield holding
