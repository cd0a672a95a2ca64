"""How the server is, for those who watch over it: `/healthz`, `/readyz` and `/metrics`."""

import asyncio
import hmac
from collections.abc import Callable

from aiohttp import web

from server.config import Config
from server.doors.origin_guard import bearer
from server.errors import Forbidden, Unavailable
from server.monitoring.metrics import Metrics
from server.store.interface import Store


class Health:
    """The routes that tell how the server is."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        config: Config,
        stopping: Callable[[], bool],
        is_local: Callable[[web.Request], bool],
    ) -> None:
        """`stopping` says whether the server is on its way out, `is_local` whether a request was
        surely made on this machine."""
        self._store = store
        self._metrics = metrics
        self._config = config
        self._stopping = stopping
        self._is_local = is_local
        self._asking: asyncio.Task[None] | None = None

    def add_to(self, app: web.Application) -> None:
        """Add the routes to an application."""
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._show_metrics)

    async def _healthz(self, _: web.Request) -> web.Response:
        """The process lives, and its loop turns."""
        return web.json_response({"ok": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        """Whether commands can be carried out: the store can be written, and its log is heard."""
        if self._stopping():
            why = "the server is stopping"
        elif not self._store.ready:
            why = self._store.why
        else:
            try:
                await self._ask()
            except Unavailable as error:
                why = error.message
            except TimeoutError:
                why = "the store did not answer within READY_TIMEOUT"
            else:
                return web.json_response({"ok": True})
        return web.json_response({"ok": False, "why": why}, status=503)

    async def _ask(self) -> None:
        """Ask the store, once for all who want to know meanwhile."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._store.ping())
        async with asyncio.timeout(self._config.ready_timeout):
            await asyncio.shield(self._asking)

    async def _show_metrics(self, request: web.Request) -> web.Response:
        """The metrics, for those who have their token, or are on this machine."""
        if not self._may_see(request):
            raise Forbidden(
                "metrics require METRICS_TOKEN as a bearer token, unless asked for from loopback"
            )
        body = await self._metrics.text()
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})

    def _may_see(self, request: web.Request) -> bool:
        wanted = self._config.metrics_token
        if wanted:
            return hmac.compare_digest(bearer(request).encode(), wanted.encode())
        return self._is_local(request)
