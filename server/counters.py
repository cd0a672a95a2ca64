"""What is measured, as plain numbers that cost next to nothing to keep: `metrics.py` shows them."""

from bisect import bisect_left
from collections import Counter

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Bounds of the buckets that durations are sorted into."""


class Histogram:
    """How often a duration fell between two bounds, and the sum of all durations."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        """`bounds` are in seconds, the least first; each duration counts for one."""
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration; one below 0, as clocks that are set may give, counts as 0."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += max(0.0, seconds)

    def buckets(self) -> list[tuple[str, float]]:
        """For each bound how many durations were at most that, as Prometheus wants it."""
        total, found = 0, []
        for bound, count in zip((*self._bounds, float("inf")), self.counts, strict=True):
            total += count
            found.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(total)))
        return found


class Counts:
    """What the parts of one server count, beside what they know anyway."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()
        """Commands carried out, by name."""
        self.refusals: Counter[str] = Counter()
        """What was refused, by the code of the error or by what refused it."""
        self.changes: Counter[tuple[str, str]] = Counter()
        """What happened to jobs through this server, by event and by the outcome of an end."""
        self.cuts: Counter[str] = Counter()
        """Connections cut for the memory that they held, by what they held most of."""
        self.command_time = Histogram()
        self.lateness = Histogram()
        """How long after its due time a job was ended."""
        self.lag = Histogram()
        """How much later than it should the event loop did something."""
        self.clock_steps: Counter[str] = Counter({"forward": 0, "back": 0})
        """How often the machine's date was set, by direction."""
        self.stalls = 0
        """How often the process stood still."""
