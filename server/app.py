"""Builds the server: makes the parts, hands them to each other, owns their start and their end."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

from server.access.auth import Authenticator
from server.access.rate_limits import Limits
from server.audit import AuditLog, AuditRecord
from server.budget import Budget
from server.clock import Clock, Watch, boottime
from server.config import Config
from server.contract.validation import Checker
from server.core.admission import Admission
from server.core.commands import Commands
from server.core.handlers import Handlers
from server.core.rooms import Rooms
from server.counters import Counts
from server.doors.fast_handshake import FastHandshake
from server.doors.http import Web, answers_in_json, websocket_alone
from server.doors.origin_guard import ClientErrorFilter, Guard
from server.errors import Unavailable
from server.events import Events, SocketGroup
from server.jobs import Jobs, Timeouts
from server.monitoring.health import Health
from server.monitoring.metrics import Metrics
from server.store import open_store
from server.transport.http_connections import Connections
from server.transport.socketio_server import SocketServer

DOORS_INTERVAL = 0.5
"""Seconds between two looks for connections that may not go on."""
SWEEP_INTERVAL = 60.0
"""Seconds at most between two looks for rooms that are kept no longer."""

log = logging.getLogger(__name__)
http_log = logging.getLogger("server.http")
http_log.addFilter(ClientErrorFilter())


class App:
    """One server. `start` it, `wait` for its end, `stop` it."""

    def __init__(
        self,
        config: Config,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = boottime,
        on_change: Callable[[AuditRecord], None] | None = None,
    ) -> None:
        """`now` is the machine's date in Unix time, and `steady` what counts the seconds, a clock
        that cannot be set.

        `on_change` hears of what this server changes, and must not wait.
        """
        self.config = config
        clock = Clock(now, steady)
        self.store = open_store(config, clock)
        self.counts = Counts()
        self._audit = AuditLog(self.counts, on_change)
        self._watch = Watch(
            clock,
            self.counts,
            config.stall_timeout,
            self.store.keep_drift,
            self.store.begin_leases_anew,
        )
        self.timeouts = Timeouts(self.store, self._watch, self.counts.lateness)
        self.jobs = Jobs(self.store, config.max_time)
        checker = Checker(config)
        self.limits = Limits(config, time.monotonic, self.counts)
        self.budget = Budget(config, time.monotonic, self.counts)
        self.sockets = SocketServer(
            decode=checker.decode,
            max_http_buffer_size=config.max_frame,
            ping_interval=config.ping_interval,
            ping_timeout=config.ping_timeout,
            upgrade_timeout=config.upgrade_timeout,
            control_rate=config.control_rate,
            grew=self.budget.grew,
            close_timeout=config.close_timeout,
            transports=config.transport_names,
            cors_allowed_origins=[],  # `Guard` guards every door alike.
        )
        self.rooms = Rooms(self.store, config, partial(SocketGroup, self.sockets), self.budget)
        handlers = Handlers(self.store, self.jobs, self.rooms, self.budget)
        self.commands = Commands(handlers, checker, self.counts, time.monotonic)
        authenticator = Authenticator(
            config.secrets, config.max_token, config.token_leeway, clock.wall
        )
        admission = Admission(authenticator, self.rooms, self.limits, self.counts)
        self.events = Events(
            self.sockets, checker, admission, self.commands, self.rooms, self.limits, config
        )
        self.budget.watch(self.events.holdings)
        application = web.Application(client_max_size=config.max_message)
        application.middlewares.append(answers_in_json)
        self.connections = Connections(config, self.limits, self.budget)
        self.guard = Guard(config, self.limits, self.connections)
        self.guard.add_to(application)
        self.web = Web(
            checker, admission, self.commands, self.rooms, self.limits, config, self.budget
        )
        self.events.add_to(application)
        self.web.add_to(application)
        metrics = Metrics(
            self.counts,
            self.store,
            self.rooms,
            self.limits,
            self.connections,
            self.events,
            self.web,
            self.budget,
        )
        health = Health(
            self.store, metrics, config, lambda: self._stopping is not None, self.guard.is_local
        )
        health.add_to(application)
        if config.transport_names == ["websocket"]:
            application.middlewares.append(websocket_alone)
        self.sockets.attach(application)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=1,
            keepalive_timeout=config.keep_alive,
            logger=http_log,
        )
        self._fast_handshake: FastHandshake | None = None
        self._stopping: asyncio.Future[None] | None = None
        # The endless tasks; one that ends takes the server with it.
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Read the store and listen. Raises `StoreError`, and `OSError` when the port is taken."""
        await self.store.open(self.rooms, self._audit.record)
        self._watch.begin()
        self._run("store", self.store.run())
        try:
            await self._runner.setup()
            assert self._runner.server is not None
            http = self._runner.server
            self.connections.watch(http)
            self._fast_handshake = FastHandshake(self.guard, self.connections, self.sockets, http)
            await self._fast_handshake.listen(self.config.host, self.config.port)
        except OSError:
            await self.stop()
            raise
        self._run("timeouts", self.timeouts.run())
        self._run("rooms", self.rooms.run())
        self._run("doors", self._watch_doors())
        self._run("clock", self._watch.run())
        if self.config.room_retention:
            self._run("sweep", self._sweep())

    @property
    def url(self) -> str:
        """Where the server listens."""
        host, port = self._listens()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._listens()[1]

    def _listens(self) -> tuple[str, int]:
        assert self._fast_handshake is not None, "it has not started"
        return self._fast_handshake.name

    async def wait(self) -> None:
        """Wait for as long as all is well. Raises `RuntimeError` when an endless task has ended."""
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            raise RuntimeError(
                f"the background task {task.get_name()} ended unexpectedly"
            ) from task.exception()

    async def stop(self) -> None:
        """Stop; whoever asks for it again waits for the same end."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        """Stop in the order in which nothing is lost.

        1. Be not ready, and listen no more.
        2. Let timeouts end no more jobs: those that come due now end after the next start.
        3. Make durable and answer what was asked; refuse what is asked from now on.
        4. End the sessions, in the way after which clients come back by themselves.
        5. Close what is left of HTTP, then the endless tasks.
        """
        if self._fast_handshake is not None:
            self._fast_handshake.close()
        await self._cancel("timeouts")
        if "store" in self._tasks:
            await self._in_time("the store", self.store.close())
        await self._in_time("clients", self.sockets.end_all())
        await self._in_time("clients", self.web.cut_all())
        await self._runner.cleanup()
        self.connections.cut_all()
        await self.sockets.shutdown()
        for name in list(self._tasks):
            await self._cancel(name)

    async def _watch_doors(self) -> None:
        """End connections whose tokens run out, until cancelled."""
        while True:
            await asyncio.sleep(DOORS_INTERVAL)
            await self.events.end_expired(self.store.clock.wall())
            await self.events.end_silent()
            await self.web.end_expired(self.store.clock.wall())
            self.connections.cut_idle()

    async def _sweep(self) -> None:
        """Have the store evict rooms that have outlived their retention, until cancelled."""
        interval = max(0.05, min(SWEEP_INTERVAL, self.config.room_retention / 10))
        while True:
            await asyncio.sleep(interval)
            with suppress(Unavailable):
                await self.store.sweep()

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = asyncio.create_task(work, name=name)

    async def _cancel(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _in_time(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self.config.stop_timeout / 4):
                await work
        except TimeoutError:
            log.warning("closing %s timed out (STOP_TIMEOUT)", what)
