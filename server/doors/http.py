"""The HTTP doors: plain JSON WebSockets at `/ws`, the commands at `/api`, and the pages.

    GET    /api/jobs                     status                 ?room= &since=EPOCH:SEQ
    POST   /api/jobs                     request                body: the command
    GET    /api/jobs/CONNID              status of one job      ?room=
    DELETE /api/jobs/CONNID              kill                   ?room= &run= &reason=
    POST   /api/jobs/CONNID/extend       extend                 body: the rest of the command
    POST   /api/jobs/CONNID/finish       finish                 the same
    POST   /api/jobs/CONNID/progress     progress               the same
    POST   /api/jobs/CONNID/stopped      stopped                the same
    POST   /api/jobs/CONNID/output       output                 the same
    GET    /api/history                  history                ?room= &connid= &before= &limit=
    GET    /api/rooms                    rooms                  ?room=
    GET    /ws                           a plain WebSocket      ?rooms=a,b &since=a:EPOCH:SEQ,…

Everywhere: `?name=` or, where tokens are needed, `?token=` or `Authorization: Bearer …`.
"""

import asyncio
import logging
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.typedefs import Handler

from server.access.auth import Expiries, expired
from server.access.rate_limits import Limits, weight
from server.budget import Budget
from server.config import Config
from server.contract import asyncapi, openapi
from server.contract.messages import Answer, Refusal, encode
from server.contract.openapi import ROUTES, STATUS, TOO_LARGE
from server.contract.validation import Checker, too_long
from server.core.admission import Admission
from server.core.commands import Commands
from server.core.pipeline import Pipeline
from server.core.replies import broken, farewell, refusal
from server.core.rooms import Rooms
from server.doors import downloads
from server.doors.compression import compressed
from server.doors.origin_guard import ADDRESS, bearer
from server.doors.pages import Pages
from server.doors.websocket import PlainClient, number, position, positions
from server.errors import CommandError, Invalid, TooLarge, UnknownRoute
from server.transport.handshake import with_plain_upgrade
from server.transport.http_connections import nothing, speaks_http
from server.transport.plain_socket import PlainSocket, has_more

log = logging.getLogger(__name__)
CREDENTIALS = ("token", "name", "via")
"""Parameters that identify the client, and are no part of the command."""
TURN = 16
"""Messages that are read from a plain WebSocket before the loop may turn to others."""
DECIMAL = re.compile(r"\d{1,18}(\.\d{1,18})?", re.ASCII)


class Web:
    """The routes of the HTTP server that are not Socket.IO's."""

    def __init__(
        self,
        checker: Checker,
        admission: Admission,
        commands: Commands,
        rooms: Rooms,
        limits: Limits,
        config: Config,
        budget: Budget,
    ) -> None:
        self._budget = budget
        self._checker = checker
        self._admission = admission
        self._commands = commands
        self._rooms = rooms
        self._config = config
        self._limits = limits
        self._clients: set[PlainClient] = set()
        self._expiries: Expiries[PlainClient] = Expiries()

    @property
    def clients(self) -> int:
        """The number of plain WebSockets that are connected."""
        return len(self._clients)

    def add_to(self, app: web.Application) -> None:
        """Add the routes to an application."""
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._command(route.command))
        app.router.add_get("/openapi.json", self._contract(openapi.document))
        app.router.add_get("/asyncapi.json", self._contract(asyncapi.document))
        app.router.add_get("/ws", self._websocket)
        downloads.add_to(app)
        Pages(self._config.compress_above).add_to(app)

    async def cut_all(self) -> None:
        """Close every plain WebSocket with the close code 1001, going away."""
        await asyncio.gather(*(client.close(WSCloseCode.GOING_AWAY) for client in self._clients))

    async def end_expired(self, now: float) -> None:
        """End the connections whose tokens have run out at `now`."""
        done = self._expiries.take(now)
        await asyncio.gather(*(client.end(farewell(expired())) for client in done))

    def _command(self, name: str) -> Handler:
        async def handle(http_request: web.Request) -> web.StreamResponse:
            address = http_request[ADDRESS]
            bucket = self._limits.bucket_of(address)
            try:
                payload = await self._payload(http_request)
                hello = self._checker.hello(credentials(http_request))
                hello.rooms = []
                caller = self._admission.welcome(hello, "http", address, bucket)
            except CommandError as error:
                message = self._commands.refuse(bucket, error)
                return respond(message, too_large=isinstance(error, TooLarge))
            response = respond(await self._commands.answer(caller, name, payload))
            bucket.charge(weight(response.content_length or 0))
            return await compressed(http_request, response, self._config.compress_above)

        return handle

    def _contract(self, document: Callable[[Config, Checker], dict[str, Any]]) -> Handler:
        @cache
        def made() -> bytes:
            return encode(document(self._config, self._checker))

        async def handle(http_request: web.Request) -> web.StreamResponse:
            response = web.Response(body=made(), content_type="application/json")
            return await compressed(http_request, response, self._config.compress_above)

        return handle

    async def _payload(self, http_request: web.Request) -> dict[str, Any]:
        """The command in a request: its headers, body, query and path, a later one overriding."""
        payload: dict[str, Any] = {}
        if key := http_request.headers.get("Idempotency-Key"):
            payload["key"] = key.strip('"')
        if http_request.body_exists:
            try:
                body = await http_request.read()
            except web.HTTPRequestEntityTooLarge:
                raise TooLarge(too_long(self._config)) from None
            decoded = self._checker.decode(body) if body else None
            if decoded is None:
                decoded = {}
            if not isinstance(decoded, dict):
                raise Invalid("the body must be a JSON object")
            payload.update(decoded)
        payload.update(typed(dict(http_request.query)))
        payload.update(http_request.match_info)
        return payload

    async def _websocket(self, http_request: web.Request) -> web.StreamResponse:
        http_request = with_plain_upgrade(http_request)
        hello = self._checker.hello(credentials(http_request) | positions(http_request.query))
        address = http_request[ADDRESS]
        caller = self._admission.welcome(hello, "websocket", address)
        socket = PlainSocket(
            max_message=self._config.max_frame,
            control_rate=self._config.control_rate,
            heartbeat=self._config.ping_interval,
            timeout=self._config.close_timeout,
            autoclose=False,
        )
        await socket.prepare(http_request)
        client = PlainClient(socket, caller.identity.name, self._config.close_timeout, self._budget)
        caller.client = client
        self._clients.add(client)
        self._expiries.add(client, caller.identity)
        self._limits.opened(address)
        pipeline = Pipeline(
            self._commands, caller, client, self._config, client.answer, client.hold
        )
        connection = speaks_http(http_request)
        if connection is not None:
            connection.holds = lambda: (client.own, pipeline.waiting(), client.shared)
        writer = asyncio.create_task(client.write())
        try:
            try:
                await self._admission.admit(client, hello)
            except CommandError as error:
                await client.end(farewell(error), WSCloseCode.TRY_AGAIN_LATER)
            taken = 0
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    caller.bucket.charge(weight(len(message.data)))
                    self._feed(pipeline, message.data)
                    await pipeline.when_room()
                else:
                    if message.type is WSMsgType.PING:
                        await socket.pong(message.data)
                    await socket.rest(socket.count())
                if connection is not None and not has_more(socket):
                    connection.taken()
                taken += 1
                if taken % TURN == 0:
                    # Messages that are already read would otherwise be served before all others.
                    await asyncio.sleep(0)
            if not socket.closed:
                await client.answer_close(pipeline)
        finally:
            if connection is not None:
                connection.holds = nothing
            self._clients.remove(client)
            self._expiries.discard(client)
            self._limits.closed(address)
            self._rooms.forget(client)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    def _feed(self, pipeline: Pipeline, data: str | bytes) -> None:
        try:
            if isinstance(data, bytes):
                raise Invalid("commands must be sent as text frames")
            payload = self._checker.decode(data)
        except CommandError as error:
            pipeline.refuse(None, error)
        else:
            id = payload.get("id") if isinstance(payload, dict) else None
            pipeline.feed(id, None, payload)


def respond(message: Answer | Refusal, *, too_large: bool = False) -> web.Response:
    """The HTTP response that carries an answer."""
    headers = {"Cache-Control": "no-store"}
    if isinstance(message, Refusal):
        status = STATUS[message.error.code]
        if too_large and status == 400:
            status = TOO_LARGE
        if status == 429:
            headers["Retry-After"] = str(math.ceil(message.error.retry_after or 1))
    else:
        status = 201 if message.result == "started" else 200
    body = encode(message)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def credentials(http_request: web.Request) -> dict[str, Any]:
    """The `token`, `name` and `via` that a request comes with."""
    query = http_request.query
    found: dict[str, Any] = {key: query[key] for key in CREDENTIALS if key in query}
    if token := bearer(http_request):
        found["token"] = token
    return found


def typed(query: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a query, with the types that JSON would have."""
    for name in CREDENTIALS:
        query.pop(name, None)
    for name in ("before", "limit", "exit"):
        if name in query:
            query[name] = number(query[name])
    if "done" in query and DECIMAL.fullmatch(query["done"]):
        query["done"] = float(query["done"])
    if "since" in query:
        query["since"] = position(query["since"])
    return query


@web.middleware
async def websocket_alone(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse long polling, in the form of an Engine.IO error."""
    if request.path == "/socket.io/" and request.query.get("transport") == "polling":
        message = (
            "only WebSocket is served here (TRANSPORTS=websocket): connect with transports:"
            ' ["websocket"]'
        )
        return web.json_response({"code": 0, "message": message}, status=400)
    return await handler(request)


@web.middleware
async def answers_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors outside of commands in the form of the protocol."""
    try:
        return await handler(request)
    except CommandError as error:
        return respond(refusal(error))
    except web.HTTPException as error:
        if error.status < 400 or not request.path.startswith("/api/"):
            raise
        what = f"{request.method} {request.path}"
        response = respond(refusal(UnknownRoute(f"no such route: {what}")))
        response.set_status(error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except ConnectionError:
        raise  # The client is gone.
    except Exception:
        if request.writer.output_size:  # An answer has begun, and cannot be taken back.
            raise
        log.exception("a request failed")
        return respond(refusal(broken()))
