"""How much a client may ask for."""

from collections import OrderedDict

from server.errors import RateLimited


class Bucket:
    """A token bucket: `rate` commands a second in the long run, and `2 * rate` at once."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: float) -> None:
        """`rate` is in commands a second; 0 lets everything through."""
        self._rate = rate
        self._left = self._burst
        self._at: float | None = None

    @property
    def _burst(self) -> float:
        return max(1.0, 2 * self._rate)

    def take(self, now: float) -> None:
        """Count one command at `now`, in seconds of any clock that only goes forward.

        Raises `RateLimited` when there have been too many.
        """
        if not self._rate:
            return
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            wait = (1 - self._left) / self._rate
            raise RateLimited(f"at most {self._rate:g} commands a second", round(wait, 3))
        self._left -= 1

    def charge(self, cost: float) -> None:
        """Count what a command turned out to cost beside itself, in commands."""
        if self._rate:
            self._left -= cost


def weight(size: int) -> int:
    """What an answer of that many bytes costs, in commands, beside its own: 1 for each 16 KiB."""
    return size // 16_384


class Buckets:
    """A bucket for each of many addresses; those that were not seen for longest are forgotten."""

    def __init__(self, rate: float, most: int = 10_000) -> None:
        """`rate` as for a `Bucket`; `most` is how many addresses are remembered."""
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, address: str) -> Bucket:
        """The bucket of an address."""
        bucket = self._buckets.pop(address, None) or Bucket(self._rate)
        self._buckets[address] = bucket
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return bucket
