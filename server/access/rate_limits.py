"""How much a client, an address and all of them together may ask for."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TypeVar

from server.config import Config
from server.counters import Counts
from server.errors import RateLimited, TooMany

Key = TypeVar("Key", bound=Hashable)

WEIGHED = 16_384
"""Bytes of an answer from which on it costs more than its command; of a message, more to read."""
RETRY_AFTER = 5.0
"""Seconds after which a client that found no room may look again."""


class TokenBucket:
    """A token bucket: `rate` commands a second in the long run, and `burst` at once."""

    __slots__ = ("_at", "_burst", "_left", "_limit", "_parent", "_rate")

    def __init__(
        self,
        rate: float,
        *,
        burst: float | None = None,
        limit: str = "rate limit",
        parent: "TokenBucket | None" = None,
    ) -> None:
        """`rate` is in commands a second; 0 lets everything through. `burst` is twice that unless
        given. `limit` names the setting, for errors. What is counted, the `parent` counts too.
        """
        self._rate = rate
        self._burst = max(1.0, 2 * rate if burst is None else burst)
        self._left = self._burst
        self._at: float | None = None
        self._limit = limit
        self._parent = parent

    def take(self, now: float) -> None:
        """Count one command at `now`, in seconds of any clock that only goes forward.

        Raises `RateLimited` when there have been too many.
        """
        if self._rate:
            if self._at is not None:
                self._left = min(self._burst, self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left < 1:
                wait = max(0.001, round((1 - self._left) / self._rate, 3))
                message = f"rate limit exceeded ({self._limit}): try again in {wait:g} s"
                raise RateLimited(message, wait)
            self._left -= 1
        if self._parent is not None:
            self._parent.take(now)

    def may_take(self, now: float) -> bool:
        """`take` one if that can be."""
        try:
            self.take(now)
        except RateLimited:
            return False
        return True

    def charge(self, cost: float) -> None:
        """Count what a command turned out to cost beside itself, in commands."""
        if self._rate:
            self._left -= cost
        if self._parent is not None:
            self._parent.charge(cost)

    def count(self, number: int, now: float) -> float:
        """Count so many in any case; for how many seconds whoever they come from should be read no
        more.
        """
        if self.may_take(now):
            number -= 1
        self.charge(number)
        return max(0.0, -self._left / self._rate) if self._rate else 0.0


def control_bucket(rate: float) -> TokenBucket:
    """A bucket for what a client sends that is no command, such as pings and CONNECTs: `rate` of
    them a second, and five times as many at once."""
    return TokenBucket(rate, burst=5 * rate)


def overdue(deadlines: dict[Key, float], now: float) -> Iterator[Key]:
    """Take out whose time has come, of deadlines that are kept with the soonest first."""
    while deadlines and (first := next(iter(deadlines.items())))[1] <= now:
        del deadlines[first[0]]
        yield first[0]


def weight(size: int) -> int:
    """What so many bytes of a message or an answer cost, in commands, beside it: 1 for 16 KiB."""
    return size // WEIGHED


class Buckets:
    """A bucket for each of many addresses; those that were not seen for longest are forgotten."""

    def __init__(self, make: Callable[[str], TokenBucket], most: int = 10_000) -> None:
        """`make` makes the bucket of an address; `most` is how many addresses are remembered."""
        self._make = make
        self._most = most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def of(self, address: str) -> TokenBucket:
        """The bucket of an address."""
        bucket = self._buckets.pop(address, None) or self._make(address)
        self._buckets[address] = bucket
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return bucket


class ConnectionQuota:
    """What is open at a time, by address and in all, under two limits."""

    def __init__(self, most: int, most_each: int) -> None:
        """At most `most` in all and `most_each` of one address; 0 for no limit."""
        self._most = most
        self._most_each = most_each
        self._each: dict[str, int] = {}
        self.total = 0

    def admits(self, address: str) -> bool:
        """Whether there may be one more of this address."""
        if self._most and self.total >= self._most:
            return False
        return not self._most_each or self._each.get(address, 0) < self._most_each

    def reached(self) -> str:
        """The setting of the limit that admits no more of some address."""
        if self._most and self.total >= self._most:
            return f"MAX_CONNECTIONS={self._most}"
        return f"MAX_CONNECTIONS_ADDRESS={self._most_each}"

    def enter(self, address: str) -> None:
        """Count one more."""
        self._each[address] = self._each.get(address, 0) + 1
        self.total += 1

    def leave(self, address: str) -> None:
        """Count one less."""
        self.total -= 1
        self._each[address] -= 1
        if not self._each[address]:
            del self._each[address]


class Limits:
    """The limits of a server. What they count for an address is counted for its `neighbours`."""

    def __init__(self, config: Config, monotonic: Callable[[], float], counts: Counts) -> None:
        """`monotonic` is a clock that only goes forward, in seconds."""
        self._refusals = counts.refusals
        self._rate = config.rate_limit
        self._monotonic = monotonic
        each, connects, failures = (
            config.rate_limit_address,
            config.connect_rate,
            config.failure_limit,
        )
        self._limit = f"RATE_LIMIT={self._rate:g} commands a second"
        of_each = f"RATE_LIMIT_ADDRESS={each:g} commands a second from one address"
        of_connects = f"CONNECT_RATE={connects:g} connects a second from one address"
        of_failures = f"FAILURE_LIMIT={failures:g} failed sign-ins a minute from one address"
        self._shared = Buckets(lambda _: TokenBucket(each, limit=of_each))
        self._single = Buckets(self.bucket)
        self._connects = Buckets(lambda _: TokenBucket(connects, limit=of_connects))
        self._failures = Buckets(
            lambda _: TokenBucket(failures / 60, burst=failures, limit=of_failures)
        )
        self._log_lines = TokenBucket(1, burst=20)
        self.clients = ConnectionQuota(config.max_connections, config.max_connections_address)
        """Clients of Socket.IO, and plain WebSockets."""

    def bucket(self, address: str) -> TokenBucket:
        """A bucket for a client that connects from an address."""
        shared = self._shared.of(neighbours(address))
        return TokenBucket(self._rate, limit=self._limit, parent=shared)

    def bucket_of(self, address: str) -> TokenBucket:
        """The bucket of all those from an address who do not connect."""
        return self._single.of(neighbours(address))

    def connect(self, address: str) -> None:
        """Count an attempt to connect. Raises `RateLimited` or `TooMany` when it may not go on."""
        try:
            self._connects.of(neighbours(address)).take(self._monotonic())
        except RateLimited:
            self.refuse("connect_rate")
            raise
        if not self.clients.admits(neighbours(address)):
            self.refuse("connections")
            message = f"connection limit reached ({self.clients.reached()}): close one first"
            raise TooMany(message, retry_after=RETRY_AFTER)

    def may_connect(self, address: str) -> bool:
        """Count an attempt to connect that may go on; nothing is counted where `connect` raises."""
        key = neighbours(address)
        return self.clients.admits(key) and self._connects.of(key).may_take(self._monotonic())

    def opened(self, address: str) -> None:
        """A client has connected."""
        self.clients.enter(neighbours(address))

    def closed(self, address: str) -> None:
        """A client that had connected is gone."""
        self.clients.leave(neighbours(address))

    def failed(self, address: str) -> None:
        """Count a sign-in that failed. Raises `RateLimited` when there were too many."""
        try:
            self._failures.of(neighbours(address)).take(self._monotonic())
        except RateLimited:
            self.refuse("sign_ins")
            raise

    def refuse(self, reason: str) -> None:
        """Count something that is refused before it can be a command."""
        self._refusals[reason] += 1

    def may_log(self) -> bool:
        """Whether one more refusal may be logged: those who are refused must not fill a disk."""
        return self._log_lines.may_take(self._monotonic())


@lru_cache(4096)
def neighbours(address: str) -> str:
    """What stands for an address where it is counted: of IPv6 the network that one customer has."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)
