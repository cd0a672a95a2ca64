"""The Socket.IO server beneath the service: what it leans on, and what it adds."""

import asyncio
import inspect
import json

import aiohttp
import engineio
import pytest
import socketio
from engineio.async_socket import AsyncSocket

from server.app import App
from server.transport import ByteQueue, EngineServer, SocketServer
from tests.conftest import Connect, Serve
from tests.support.clients import PATIENCE, PollingClient
from tests.support.servers import command, eventually

LEANED_ON = {
    socketio.AsyncServer._handle_connect: "(self, eio_sid, namespace, data)",
    socketio.AsyncServer._handle_event_internal: (
        "(self, server, sid, eio_sid, data, namespace, id)"
    ),
    socketio.AsyncServer._handle_eio_disconnect: "(self, eio_sid, reason)",
    socketio.AsyncServer._engineio_server_class: "(self)",
    socketio.AsyncManager.sid_from_eio_sid: "(self, eio_sid, namespace)",
    socketio.AsyncManager.eio_sid_from_sid: "(self, sid, namespace)",
    socketio.AsyncManager.is_connected: "(self, sid, namespace)",
    socketio.packet.Packet.decode: "(self, encoded_packet)",
    engineio.AsyncServer.create_queue: "(self, *args, **kwargs)",
    engineio.AsyncServer._log_error_once: "(self, message, message_key)",
    AsyncSocket.close: "(self, wait=True, abort=False, reason=None)",
    asyncio.Queue._put: "(self, item)",
    asyncio.Queue._get: "(self)",
}


@pytest.mark.parametrize("function", LEANED_ON, ids=lambda function: function.__qualname__)
def test_what_the_transport_leans_on_is_there(function: object) -> None:
    assert str(inspect.signature(function)) == LEANED_ON[function]  # type: ignore[arg-type]


def test_the_transport_puts_its_parts_in() -> None:
    server = SocketServer(decode=json.loads)
    assert isinstance(server.eio, EngineServer)
    assert isinstance(AsyncSocket(server.eio, "x").queue, ByteQueue)
    assert server.async_handlers is False


def test_the_packets_of_other_servers_and_clients_stay_as_they_were() -> None:
    SocketServer(decode=json.loads)
    assert socketio.AsyncServer().packet_class.json is not SocketServer(decode=json.loads)
    assert socketio.packet.Packet.json.__name__ == "engineio.json"


async def test_a_client_that_does_not_read_is_bounded_and_let_go(serve: Serve) -> None:
    app = await serve(rate_limit=0, max_backlog=50_000, slow_timeout=0.5)
    url = f"{app.url}/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(url, max_msg_size=2**24)
        await socket.receive_str()
        await socket.send_str("40")
        await eventually(lambda: app.rooms.clients == 1)
        connection = socket._conn
        assert connection is not None
        connection.protocol.pause_reading()
        await flood(app)
        await eventually(lambda: app.rooms.clients == 0, PATIENCE)
        connection.transport.abort()
        await socket.close()


async def flood(app: App) -> None:
    """More events than the buffers of a loopback connection can hold."""
    for number in range(12_000):
        await command(app, "request", connid=str(number % 50), time=60, note="x" * 500,
                      if_running="replace")  # fmt: skip
        size = max(socket.queue.size for socket in app.sockets.eio.sockets.values() or [None])
        assert size < 200_000
        if app.rooms.clients == 0:
            return


async def test_a_polling_client_that_does_not_poll_is_bounded_and_let_go(serve: Serve) -> None:
    app = await serve(rate_limit=0, max_backlog=20_000, slow_timeout=0.5)
    async with aiohttp.ClientSession(app.url) as session:
        path = "/socket.io/?EIO=4&transport=polling"
        async with session.get(path) as response:
            sid = json.loads((await response.text())[1:])["sid"]
        async with session.post(f"{path}&sid={sid}", data="40") as response:
            assert response.status == 200
        await eventually(lambda: app.rooms.clients == 1)
        queue = app.sockets.eio.sockets[sid].queue
        for _ in range(200):
            await command(app, "request", connid="a", time=60, note="x" * 500,
                          if_running="replace")  # fmt: skip
        assert queue.size < 60_000
        await eventually(lambda: app.rooms.clients == 0)


async def test_a_long_poll_ends_when_its_client_leaves(app: App, connect: Connect) -> None:
    client = await connect(app.url, "polling")
    assert isinstance(client, PollingClient)
    async with asyncio.timeout(5):
        await client.close()


async def test_the_stop_sends_browsers_away_so_that_they_come_back(serve: Serve) -> None:
    app = await serve()
    url = f"{app.url}/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.receive_str()
        await socket.send_str('40{"rooms":[]}')
        await socket.receive_str()
        await app.stop()
        # The CLOSE of Engine.IO, not the DISCONNECT of Socket.IO, after which they stay away.
        assert await socket.receive_str() == "1"
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


async def test_many_commands_in_one_post_are_all_answered(app: App, connect: Connect) -> None:
    client = await connect(app.url, "polling", rooms=[])
    starts = (client.command("request", {"connid": str(n), "time": 60}) for n in range(100))
    assert all(answer["ok"] for answer in await asyncio.gather(*starts))
