"""What `/metrics` shows, in the words of Prometheus. Everything is read when it is asked for."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from server.access.rate_limits import Limits
from server.budget import Budget
from server.core.commands import TIMED
from server.core.rooms import Rooms
from server.counters import Counts, Histogram
from server.doors.http import Web
from server.events import Events
from server.monitoring.process_log import lines_dropped
from server.store.interface import Store
from server.transport.http_connections import Connections


class Metrics(Collector):
    """The numbers of one server. None tells a name of a job, a room or a person."""

    def __init__(
        self,
        counts: Counts,
        store: Store,
        rooms: Rooms,
        limits: Limits,
        connections: Connections,
        events: Events,
        web: Web,
        budget: Budget,
    ) -> None:
        self._counts = counts
        self._store = store
        self._rooms = rooms
        self._limits = limits
        self._connections = connections
        self._events = events
        self._web = web
        self._budget = budget
        self._running = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def text(self) -> bytes:
        """All of them. Raises `Unavailable` when the store cannot say what is running."""
        self._running = sum((await self._store.counts()).values())
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The metrics, for the registry."""
        counts = self._counts
        yield GaugeMetricFamily(
            "hourglass_jobs_running", "Jobs that are running.", value=self._running
        )
        changes = CounterMetricFamily(
            "hourglass_job_changes",
            "Starts, kills, ends and stops made through this server; ends by outcome.",
            labels=("event", "outcome"),
        )
        for labels, value in counts.changes.items():
            changes.add_metric(labels, value)
        yield changes
        yield counted("commands", "Commands carried out.", "command", counts.commands)
        yield counted("refusals", "What was refused, by reason.", "reason", counts.refusals)
        yield counted(
            "memory_cuts",
            "Connections cut for the memory that they held, by what they held most of.",
            "kind",
            counts.cuts,
        )
        yield self._memory()
        yield GaugeMetricFamily(
            "hourglass_memory_budget_bytes",
            "MEMORY_BUDGET: half of it is for unsent, unfinished and waiting together, a quarter"
            " for ended, an eighth each for output and replay.",
            value=2 * self._budget.share,
        )
        yield timed(
            "command", f"From a command to its answer, of one in {TIMED}.", counts.command_time
        )
        yield timed("commit", "Until a change was durable in the store.", self._store.commits)
        yield timed("lateness", "Between a job's due time and its end.", counts.lateness)
        yield timed("loop_lag", "By which the event loop came late.", counts.lag)
        yield counted(
            "clock_steps",
            "How often the machine's date was set, by direction.",
            "direction",
            counts.clock_steps,
        )
        yield CounterMetricFamily(
            "hourglass_stalls", "How often the process stood still.", value=counts.stalls
        )
        yield CounterMetricFamily(
            "hourglass_rooms_evicted",
            "Rooms evicted by this server, as they were idle for ROOM_RETENTION.",
            value=self._store.rooms_evicted,
        )
        yield CounterMetricFamily(
            "hourglass_deliveries",
            "Events queued for clients, each client counted.",
            value=self._rooms.deliveries,
        )
        yield CounterMetricFamily(
            "hourglass_log_lines_dropped",
            "Lines of the log that could not be written in time.",
            value=lines_dropped(),
        )
        clients = GaugeMetricFamily(
            "hourglass_clients", "Clients that are connected, by door.", labels=("door",)
        )
        clients.add_metric(("socket",), self._events.clients)
        clients.add_metric(("websocket",), self._web.clients)
        yield clients
        yield GaugeMetricFamily(
            "hourglass_clock_offset_seconds",
            "By which the machine's date is ahead of the time that is shown.",
            value=self._store.clock.drift,
        )
        for name, help, value in (
            ("sessions", "Connections that count for MAX_CONNECTIONS.", self._limits.clients.total),
            ("http_connections", "Connections that speak HTTP.", self._connections.total),
            ("slow_clients", "Clients too slow to be sent everything.", self._rooms.slow),
            ("rooms_open", "Rooms that somebody is in.", self._rooms.open_rooms),
            (
                "store_ready",
                "Whether changes can be written and are heard: 1 or 0.",
                int(self._store.ready),
            ),
        ):
            yield GaugeMetricFamily(f"hourglass_{name}", help, value=value)

    def _memory(self) -> Metric:
        family = GaugeMetricFamily(
            "hourglass_memory_held_bytes", "Memory held for others, by kind.", labels=("kind",)
        )
        held = {**self._budget.kinds(), **self._store.held, "replay": self._rooms.held}
        for kind, size in held.items():
            family.add_metric((kind,), size)
        return family


def counted(name: str, help: str, label: str, values: dict[str, int]) -> Metric:
    """A counter with one label."""
    family = CounterMetricFamily(f"hourglass_{name}", help, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def timed(name: str, help: str, histogram: Histogram) -> Metric:
    """A histogram of durations."""
    return HistogramMetricFamily(
        f"hourglass_{name}_seconds", help, buckets=histogram.buckets(), sum_value=histogram.sum
    )
