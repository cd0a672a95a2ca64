"""How much memory the process holds for others: one budget, of which each kind has a share.

Shares are fixed, so that those who fill one take nothing from the others.

What is held for connections is not counted where it comes and goes, which would be felt in every
write. Those who hold more only say how much more (`Budget.grew`), and only on the slow ways: when
a client has not taken all at once, when a message has not come whole. What that adds up to is at
least what is held; when it is above the share, what is held is measured, and if that is too much,
connections are cut: of the address that holds most, those that have held much for long.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import NamedTuple

from server.config import Config
from server.counters import Counts

KINDS = ("unsent", "unfinished", "waiting")
"""What is held for connections."""
LITTLE = 1024
"""Bytes that one connection holds of a kind before `Budget.grew` is told of them."""
SLACK = 16
"""The part of a share, one of so many, that may be cut beyond what has to be, so that not every
byte has all measured again."""
AGAIN = 0.05
"""Seconds until it is measured again for those for whom there was no room."""
SAID_AGAIN = 10.0
"""Seconds until the log tells again that connections are cut."""

log = logging.getLogger(__name__)


class Shares:
    """The bytes that each kind may take."""

    def __init__(self, config: Config) -> None:
        self.connections = config.memory_budget // 2
        self.ended = config.memory_budget // 4
        self.replay = config.memory_budget // 8
        self.output = config.memory_budget // 8


class Holding(NamedTuple):
    """What is held for one connection, in bytes."""

    address: str
    """Whom it counts for."""
    since: float
    """The time since when there has been something, by the clock of the `Budget`."""
    cut: Callable[[], None]
    """Lets go of it, and of its connection."""
    unsent: int = 0
    """What was sent to it and is not on its way."""
    unfinished: int = 0
    """What it has sent of messages that are not whole."""
    waiting: int = 0
    """What it has sent whole and has to wait for its turn."""

    @property
    def size(self) -> int:
        """All of it."""
        return self.unsent + self.unfinished + self.waiting

    @property
    def kinds(self) -> dict[str, int]:
        """The bytes of each of `KINDS`."""
        return dict(zip(KINDS, (self.unsent, self.unfinished, self.waiting), strict=True))


class Budget:
    """What is held for all connections, under the share of them."""

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
        self._most = self.share
        self._measured_at = -AGAIN
        self._said_at = -SAID_AGAIN

    def watch(self, source: Callable[[], Iterable[Holding]]) -> None:
        """Count what a part of the server holds."""
        self._sources.append(source)

    def grew(self, size: int) -> None:
        """So many more bytes are held. That they are no longer need not be told."""
        self._held += size
        if self._held > self._most:
            held = self._measure()
            slack = self.share // SLACK
            # One always stays: alone it may need more than the share.
            order = islice(by_weight(held, self._clock()), max(0, len(held) - 1))
            self._cut(order, self._held - (self.share - slack))
            self._most = max(self.share, self._held + slack)

    def admits(self, size: int) -> bool:
        """Whether so much more may be held; who has stalled is cut for that.

        What is more than the whole share has room where nothing else is held: else nobody could
        ever be sent it.
        """
        most = self.share - min(size, self.share)
        now = self._clock()
        if self._held > most and now - self._measured_at >= AGAIN:
            stalled = [
                holding for holding in self._measure() if now - holding.since >= self._patience
            ]
            self._cut(by_weight(stalled, now), self._held - most)
        return self._held <= most

    def kinds(self) -> dict[str, int]:
        """The bytes that are held of each kind, measured now."""
        held = self._measure()
        return {kind: sum(holding.kinds[kind] for holding in held) for kind in KINDS}

    def _measure(self) -> list[Holding]:
        held = [holding for source in self._sources for holding in source() if holding.size]
        self._held = sum(holding.size for holding in held)
        self._measured_at = self._clock()
        return held

    def _cut(self, order: Iterable[Holding], surplus: int) -> None:
        """Cut connections in this order, until there are so many bytes less."""
        number = 0
        for holding in order:
            if surplus <= 0:
                break
            surplus -= holding.size
            self._held -= holding.size
            self._counts.cuts[max(KINDS, key=holding.kinds.__getitem__)] += 1
            holding.cut()
            number += 1
        if number and self._clock() - self._said_at >= SAID_AGAIN:
            self._said_at = self._clock()
            log.warning(
                "closing connections: they hold more than MEMORY_BUDGET=%d allows", self.total
            )


def by_weight(held: Iterable[Holding], now: float) -> Iterator[Holding]:
    """Who is to be cut, first to last: of the address that then holds most the one that has held
    most for longest."""
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
            heapreplace(totals, (total + holding.size, address))
        else:
            heappop(totals)
        yield holding
