"""The transport, from the wire: a WebSocket's whole life, and the Socket.IO server on top of it."""

import asyncio
import inspect
import json
import random
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import aiohttp
import engineio
import pytest
import socketio
from aiohttp import WSMsgType, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import WebSocketReader
from aiohttp.web_protocol import RequestHandler
from engineio.async_socket import AsyncSocket

from server.app import App
from server.transport.byte_queue import ByteQueue
from server.transport.driver import install
from server.transport.frames import Buffer, frame
from server.transport.handshake import upgrade_in
from server.transport.inbox import Dispatch
from server.transport.socketio_server import SocketServer
from tests.conftest import Connect, Serve
from tests.support.clients import PATIENCE, PollingClient, PythonClient
from tests.support.servers import command, eventually
from tests.support.soak import SOAK
from tests.support.wire import KEY, REQUEST, Wire, masked, wire

LEANED_ON = {
    socketio.AsyncServer._handle_event_internal: (
        "(self, server, sid, eio_sid, data, namespace, id)"
    ),
    socketio.AsyncServer._handle_eio_message: "(self, eio_sid, data)",
    socketio.AsyncServer._handle_eio_disconnect: "(self, eio_sid, reason)",
    socketio.AsyncManager.sid_from_eio_sid: "(self, eio_sid, namespace)",
    socketio.AsyncManager.basic_enter_room: "(self, sid, namespace, room, eio_sid=None)",
    socketio.packet.Packet.decode: "(self, encoded_packet)",
    engineio.AsyncServer.create_queue: "(self, *args, **kwargs)",
    engineio.AsyncServer.generate_id: "(self)",
    engineio.AsyncServer.handle_request: "(self, *args, **kwargs)",
    socketio.AsyncServer._handle_eio_connect: "(self, eio_sid, environ)",
    socketio.AsyncServer._handle_event: "(self, eio_sid, namespace, id, data)",
    socketio.AsyncServer._handle_disconnect: "(self, eio_sid, namespace, reason=None)",
    engineio.AsyncServer._log_error_once: "(self, message, message_key)",
    engineio.AsyncServer._ok: "(self, packets=None, headers=None, jsonp_index=None)",
    engineio.AsyncServer._make_response: "(self, response_dict, environ)",
    engineio.AsyncServer.start_background_task: "(self, target, *args, **kwargs)",
    AsyncSocket.receive: "(self, pkt)",
    AsyncSocket.close: "(self, wait=True, abort=False, reason=None)",
    AsyncSocket.schedule_ping: "(self)",
    AsyncSocket._send_ping: "(self)",
    AsyncSocket._websocket_handler: "(self, ws)",
    RequestHandler.connection_lost: "(self, exc: BaseException | None) -> None",
    RequestHandler._pause_reading_for_buffer: "(self) -> None",
    RequestHandler._resume_reading_for_buffer: "(self) -> None",
    web.WebSocketResponse._post_start: (
        "(self, request: aiohttp.web_request.BaseRequest, protocol: str | None,"
        " writer: aiohttp._websocket.writer.WebSocketWriter) -> None"
    ),
    asyncio.Queue._put: "(self, item)",
    asyncio.Queue._get: "(self)",
}


@pytest.mark.parametrize("function", LEANED_ON, ids=lambda function: function.__qualname__)
def test_what_the_transport_leans_on_is_there(function: object) -> None:
    assert str(inspect.signature(function)) == LEANED_ON[function]  # type: ignore[arg-type]


async def test_the_driver_takes_the_places_that_it_needs() -> None:
    server = SocketServer(decode=json.loads)
    socket = AsyncSocket(server.eio, "x")
    assert isinstance(socket.queue, ByteQueue)
    assert server.eio.start_service_task is False
    assert server.async_handlers is False
    assert server.eio._async["websocket"] != socketio.AsyncServer().eio._async["websocket"]
    assert server.eio.handle_request.__self__ is server.driver
    assert {"_message_tail", "_payload_parser"} <= set(RequestHandler.__slots__)
    assert "_upgraded" in BaseProtocol.__slots__
    assert {"last_ping", "upgrading", "upgraded", "connected", "closed"} <= set(vars(socket))


async def test_a_session_that_begins_as_a_websocket_is_like_any_other(app: App) -> None:
    async with aiohttp.ClientSession(app.url) as session:
        path = "/socket.io/?EIO=4&transport="
        async with session.get(f"{path}polling") as response:
            asked = await response.text()
        async with session.ws_connect(f"{path}websocket&sid={json.loads(asked[1:])['sid']}") as old:
            await old.send_str("2probe")
            await old.receive_str()
            await old.send_str("5")
            async with session.ws_connect(f"{path}websocket") as new:
                said = json.loads((await new.receive_str())[1:])
                await eventually(
                    lambda: all(it.upgraded for it in app.sockets.eio.sockets.values())
                )
                first, second = map(vars, app.sockets.eio.sockets.values())
                assert first.keys() == second.keys()
                unlike = {name for name in first if first[name] != second[name]}
                assert unlike == {"sid", "queue", "on_text"}
                assert said == json.loads(asked[1:]) | {"sid": said["sid"], "upgrades": []}


async def test_a_head_with_an_upgrade_is_read_as_aiohttp_does() -> None:
    read = upgrade_in(REQUEST + b"more")
    assert read is not None
    head, rest = read
    assert head.path == "/socket.io/?EIO=4&transport=websocket"
    assert head.headers["sec-websocket-key"] == KEY
    assert rest == b"more"
    for other in (REQUEST[:-1], b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n"):
        assert upgrade_in(other) is None


async def test_messages_come_out_of_aiohttp_s_parser_at_once() -> None:
    taken: list[Any] = []

    class Taker:
        def message_received(self, kind: WSMsgType, data: Any) -> None:
            taken.append((kind, data))

    dispatch = Dispatch(Taker(), asyncio.get_running_loop())
    parser = WebSocketReader(dispatch, 100, compress=False, decode_text=True)
    assert parser.feed_data(frame(b"one") + frame(b"two")) == (False, b"")
    assert taken == [(WSMsgType.TEXT, "one"), (WSMsgType.TEXT, "two")]
    failed, _ = parser.feed_data(frame(b"x" * 101))
    assert failed


def test_the_packets_of_other_servers_and_clients_stay_as_they_were() -> None:
    SocketServer(decode=json.loads)
    assert socketio.packet.Packet.json.__name__ == "engineio.json"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_frames_have_the_right_length(size: int) -> None:
    made = frame(b"x" * size)
    header = 2 if size < 126 else 4 if size < 65_536 else 10
    assert len(made) == header + size
    assert made[0] == 0x81


async def test_a_ping_frame_is_answered(app: App) -> None:
    async with wire(app) as client:
        client.send(WSMsgType.PING, b"are you there")
        assert await client.receive() == (WSMsgType.PONG, b"are you there")
        client.send(WSMsgType.PONG, b"unasked")
        client.send(WSMsgType.TEXT, b'420["status"]')
        assert (await client.text()).startswith("430[")


async def test_a_close_frame_is_answered_with_its_code(app: App) -> None:
    async with wire(app) as client:
        client.send(WSMsgType.CLOSE, struct.pack("!H", 1001) + b"bye")
        assert await client.receive() == (WSMsgType.CLOSE, struct.pack("!H", 1001))
        assert await client.reader.read() == b""
    await eventually(lambda: not app.sockets.driver.connections)


async def test_a_message_in_fragments_is_one_message(app: App) -> None:
    async with wire(app) as client:
        client.send(WSMsgType.TEXT, b'421["request",', fin=False)
        client.send(WSMsgType.PING, b"between")
        client.send(WSMsgType.CONTINUATION, b'{"connid":"a",', fin=False)
        client.send(WSMsgType.CONTINUATION, b'"time":60}]')
        assert await client.receive() == (WSMsgType.PONG, b"between")
        assert '"started"' in await client.text()


@pytest.mark.parametrize("again", ["40", "40{}", '40{"rooms":[]}', "40/other,"])
async def test_a_client_connects_once_and_to_one_namespace(app: App, again: str) -> None:
    async with wire(app) as client:
        client.send(WSMsgType.TEXT, again.encode())
        told, _, refusal = (await client.text()).partition("{")
        assert told == ("44/other," if "/" in again else "44")
        refused = json.loads("{" + refusal)
        assert refused["message"] == refused["data"]["message"] != ""
        assert refused["data"]["code"] == "invalid"
        assert app.events.clients == 1


async def test_what_follows_a_connect_waits_until_its_client_is_in_its_rooms(app: App) -> None:
    hello = masked(WSMsgType.TEXT, b'40{"rooms":["a","b"]}')
    hello += masked(WSMsgType.TEXT, b'421["request",{"connid":"x","time":60,"room":"a"}]')
    for _ in range(2):  # The rooms are read from the store, and then they are at hand.
        async with wire(app, None) as client:
            client.writer.write(hello)
            heard = [(await client.text()).partition("{")[0] for _ in range(4)]
            assert heard[:3] == ["40", '42["snapshot",', '42["snapshot",']
            assert heard[3] in ('42["started",', "431[")


async def test_bytes_may_come_one_at_a_time(app: App) -> None:
    async with wire(app) as client:
        for byte in masked(WSMsgType.TEXT, b'421["status"]'):
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.text()).startswith("431[")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked(WSMsgType.TEXT, b"4" * 2000), 1009),
        (masked(WSMsgType.TEXT, b"42\xff"), 1007),
        (masked(WSMsgType.TEXT, b"42[]", rsv=4), 1002),
        (masked(WSMsgType.TEXT, b"42[]", rsv=2), 1002),
        (masked(0x3, b""), 1002),
        (masked(WSMsgType.CONTINUATION, b"x"), 1002),
        (masked(WSMsgType.PING, b"x" * 126), 1002),
        (masked(WSMsgType.PING, b"x", fin=False), 1002),
        (masked(WSMsgType.CLOSE, b"x"), 1002),
        (masked(WSMsgType.CLOSE, struct.pack("!H", 999)), 1002),
        (masked(WSMsgType.TEXT, b""), 1003),
        (masked(WSMsgType.TEXT, b"nonsense"), 1003),
        (masked(WSMsgType.TEXT, b"9"), 1003),
        (frame(b'420["status",{}]'), 1002),
        (frame(b"", WSMsgType.PING), 1002),
        (frame(struct.pack("!H", 1000), WSMsgType.CLOSE), 1002),
        (b"\x81\xfe\x00\x01" + bytes(5), 1002),
        (b"\x81\xff" + struct.pack("!Q", 200) + bytes(204), 1002),
        (masked(WSMsgType.CLOSE, struct.pack("!H", 1005)), 1002),
        (masked(WSMsgType.CLOSE, struct.pack("!H", 1006)), 1002),
        (masked(WSMsgType.CLOSE, struct.pack("!H", 5000)), 1002),
        (masked(WSMsgType.CLOSE, struct.pack("!H", 65535)), 1002),
    ],
    ids=range(22),
)
async def test_a_frame_that_may_not_be_closes_with_the_right_code(
    serve: Serve, connect: Connect, frame: bytes, code: int
) -> None:
    app = await serve(max_message=512, max_frame=1024)
    watcher = await connect(app.url, name="watcher")
    async with wire(app, '{"name":"bad"}') as client:
        await watcher.event("presence", watching=2)
        assert (await client.text()).startswith('42["snapshot"')
        client.writer.write(frame)
        while (received := await client.receive())[0] != WSMsgType.CLOSE:
            pass
        assert int.from_bytes(received[1][:2], "big") == code
    await watcher.event("presence", watching=1)
    assert (await watcher.command("status"))["ok"]
    assert len(app.sockets.eio.sockets) == 1


async def test_a_message_as_long_as_the_server_says_is_taken(app: App) -> None:
    async with wire(app) as client:
        event = b'420["status",{}'.ljust(app.config.max_frame - 1) + b"]"
        client.writer.write(masked(WSMsgType.TEXT, event))
        assert '"message too long' in await client.text()
        client.writer.write(masked(WSMsgType.TEXT, event + b" "))
        assert await client.closed_with() == 1009


async def test_what_came_before_a_frame_that_may_not_be_is_carried_out(app: App) -> None:
    async with wire(app) as client:
        good = masked(WSMsgType.TEXT, b'420["request",{"connid":"a","time":60}]')
        client.writer.write(good + frame(b"41"))
        assert await client.closed_with() == 1002
    await eventually(lambda: not app.sockets.driver.connections)
    assert (await command(app, "status", connid="a"))["ok"]


async def test_a_client_that_is_cut_off_is_noticed(app: App, connect: Connect) -> None:
    watcher = await connect(app.url)
    async with wire(app, "{}") as client:
        await watcher.event("presence", watching=2)
        client.writer.transport.abort()
        await watcher.event("presence", watching=1)


@pytest.mark.slow
@pytest.mark.parametrize("transports", ["websocket", "polling"])
async def test_a_client_that_does_not_answer_pings_is_let_go(
    serve: Serve, connect: Connect, transports: str
) -> None:
    app = await serve(ping_interval=1, ping_timeout=1)
    alive = await connect(app.url, "websocket" if transports == "websocket" else "python")
    if transports == "websocket":
        async with wire(app, "{}") as silent:
            await alive.event("presence", watching=2)
            assert (await silent.text()).startswith('42["snapshot"')
            await alive.event("presence", watching=1)
            await eventually(lambda: not app.sockets.driver.connections)
    else:
        async with aiohttp.ClientSession(app.url) as session:
            path = "/socket.io/?EIO=4&transport=polling"
            async with session.get(path) as response:
                sid = json.loads((await response.text())[1:])["sid"]
            async with session.post(f"{path}&sid={sid}", data="40"):
                await alive.event("presence", watching=2)
            await alive.event("presence", watching=1)
    assert (await alive.command("status"))["ok"]


@pytest.mark.slow
async def test_clients_that_answer_pings_stay_and_take_no_task(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(ping_interval=1, ping_timeout=1)
    clients = [await connect(app.url, rooms=["main"]) for _ in range(5)]
    polling = await connect(app.url, "polling")
    async with wire(app) as counting:
        for _ in range(3):  # When the third is sent, an answer to the first one has been missed.
            assert await counting.text() == "2"
            counting.send(WSMsgType.TEXT, b"3")
    for client in [*clients, polling]:
        assert (await client.command("status"))["ok"]
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    assert not [name for name in names if "_send_ping" in name or "_service_task" in name]
    assert not [name for name in names if "websocket_wait" in name or "writer" in name]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-WebSocket-Version": "13"},
        {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "é" * 24},
    ],
)
async def test_a_handshake_that_is_none_is_refused(app: App, headers: dict[str, str]) -> None:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", **headers}
    async with aiohttp.ClientSession(app.url) as session:
        path = "/socket.io/?EIO=4&transport=websocket"
        async with session.get(path, headers=headers) as response:
            assert response.status == 400
    assert app.sockets.eio.sockets == {}


async def test_pipelined_commands_are_answered_in_order(serve: Serve) -> None:
    app = await serve(rate_limit=0)
    order = random.Random(3)
    async with wire(app) as client:
        sent = []
        for number in range(1000):
            name = order.choice(["request", "kill", "status", "finish", "history", "nonsense"])
            fields = {"connid": str(order.randrange(5)), "time": 60, "run": "x", "limit": 1}
            sent.append(name)
            event = json.dumps([name, fields]).encode()
            client.send(WSMsgType.TEXT, b"42%d%b" % (number, event))
        for number in range(len(sent)):
            text = await client.text()
            assert text.startswith(f"43{number}["), (number, sent[number], text[:80])


async def test_what_a_commit_has_brought_is_answered_in_one_write(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    answer = app.sockets.answer

    def noting(socket: AsyncSocket, answers: list[tuple[bytes | None, bytes]]) -> None:
        together.append(len(answers))
        answer(socket, answers)

    monkeypatch.setattr(app.sockets, "answer", noting)
    connids = [str(number % 90) for number in range(100)]  # The last ten are running already.
    async with wire(app) as client:
        for number, connid in enumerate(connids):
            event = json.dumps(["request", {"connid": connid, "time": 60}]).encode()
            client.send(WSMsgType.TEXT, b"42%d%b" % (number, event))
        for number in range(100):
            text = await client.text()
            assert text.startswith(f"43{number}["), text[:80]
            assert ('"ok":true' in text) == (number < 90)
    assert sum(together) == 100
    assert len(together) < 50


async def test_a_client_sees_what_it_has_just_done(app: App) -> None:
    async with wire(app) as client:
        for number in range(100):
            for event in (
                ["request", {"connid": "a", "time": 60}],
                ["status", {}],
                ["kill", {"connid": "a"}],
                ["status", {}],
            ):
                client.send(WSMsgType.TEXT, b"42%d%b" % (number, json.dumps(event).encode()))
        for _ in range(100):
            answers = [json.loads((await client.text()).split("[", 1)[1][:-1]) for _ in range(4)]
            assert [answer["result"] for answer in answers] == [
                "started",
                "status",
                "killed",
                "status",
            ]
            assert [len(answers[1]["jobs"]), len(answers[3]["jobs"])] == [1, 0]


async def test_what_is_sent_before_the_handshake_is_answered_counts(app: App) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(app.url.rsplit(":", 1)[1]))
    client = Wire(reader, writer)
    writer.write(REQUEST + masked(WSMsgType.TEXT, b"40") + masked(WSMsgType.TEXT, b'421["status"]'))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    texts = [await client.text() for _ in range(4)]
    assert [text[:3] for text in texts[:2]] == ['0{"', "40{"]
    assert {text[:4] for text in texts[2:]} == {'42["', "431["}
    writer.close()


async def test_what_one_turn_produces_leaves_in_one_write(app: App) -> None:
    async with wire(app, "{}") as client:
        await client.text()
        (connection,) = app.sockets.driver.connections
        written: list[bytes] = []
        send = connection.send_bytes

        def counting(data: Buffer) -> int:
            written.append(bytes(data))
            return send(data)

        connection.send_bytes = counting
        (group,) = connection.groups
        group._senders[connection] = counting
        starts = (command(app, "request", connid=str(n), time=60) for n in range(20))
        await asyncio.gather(*starts)
        for _ in range(20):
            assert '"started"' in await client.text()
        assert 1 <= len(written) <= 2


@pytest.mark.slow
async def test_an_upgrade_loses_and_doubles_nothing(serve: Serve) -> None:
    app = await serve(rate_limit=0)

    async def move(client: PythonClient) -> None:
        client.transports = None  # Long polling first.
        await client.connect(app.url, rooms=["main"])
        await eventually(lambda: client.sio.transport() == "websocket")

    async def keep_busy() -> None:
        for number in range(400):
            await command(app, "request", connid=str(number), time=60)
            await asyncio.sleep(0)

    clients = [PythonClient() for _ in range(20)]
    busy = asyncio.create_task(keep_busy())
    await asyncio.gather(*(move(client) for client in clients))
    await busy
    for client in clients:
        await client.event("started", seq=400)
        heard = [body["seq"] for name, body in client.events if name in ("snapshot", "started")]
        assert heard == list(range(heard[0], 401))
        await client.close()


@pytest.mark.slow
async def test_clients_of_every_kind_hear_one_order(serve: Serve, connect: Connect) -> None:
    app = await serve(rate_limit=0)
    kinds = ["python", "polling", "websocket", "node"] * 3
    clients = await asyncio.gather(*(connect(app.url, kind) for kind in kinds))
    for number in range(100):
        changes = [command(app, "request", connid=f"{number}-{n}", time=60) for n in range(5)]
        await asyncio.gather(*changes)
    for client in clients:
        await client.event("started", seq=500)
        heard = [body["seq"] for name, body in client.events if name in ("snapshot", "started")]
        assert heard == list(range(501))


@pytest.mark.slow
async def test_many_who_come_and_go_leave_nothing(serve: Serve) -> None:
    app = await serve(rate_limit=0)
    order = random.Random(11)

    async def come_and_go() -> None:
        for _ in range(250 if SOAK else 50):
            async with wire(app, "{}") as client:
                if order.random() < 0.5:
                    client.send(WSMsgType.TEXT, b'420["request",{"connid":"a","time":60}]')
                if order.random() < 0.3:
                    client.writer.transport.abort()
                elif order.random() < 0.5:
                    client.send(WSMsgType.CLOSE, b"")
                await asyncio.sleep(order.uniform(0, 0.005))

    tasks = len(asyncio.all_tasks())
    await asyncio.gather(*(come_and_go() for _ in range(20)))
    await eventually(lambda: not app.sockets.driver.connections)
    await eventually(lambda: not app.rooms.open_rooms and not app.rooms.clients)
    await eventually(lambda: len(asyncio.all_tasks()) < tasks + 10)
    assert app.sockets.eio.sockets == {}
    assert app.sockets.environ == {}
    assert app.sockets.manager.rooms == {}
    assert app.sockets.manager.eio_to_sid == {}


@asynccontextmanager
async def plain_server() -> AsyncIterator[tuple[socketio.AsyncServer, str]]:
    """A server of somebody else, with nothing of ours but the driver."""
    sio = socketio.AsyncServer(async_mode="aiohttp")
    driver = install(sio)
    application = web.Application()
    sio.attach(application)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield sio, f"http://{host}:{port}"
    await driver.stop(patience=1)
    await runner.cleanup()


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], None])
async def test_a_plain_server_works_as_before(transports: list[str] | None) -> None:
    async with plain_server() as (sio, url):
        gone = asyncio.Event()
        addresses = []

        @sio.event  # type: ignore[untyped-decorator]
        async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
            addresses.append(environ.get("REMOTE_ADDR"))

        @sio.event  # type: ignore[untyped-decorator]
        async def echo(sid: str, *args: Any) -> Any:
            await sio.emit("all", {"data": b"\x00\x01", "n": [1, b"\x02"]})
            return args

        @sio.event  # type: ignore[untyped-decorator]
        async def ask(sid: str) -> Any:
            return await sio.call("question", {"x": b"\x03"}, to=sid)

        @sio.event  # type: ignore[untyped-decorator]
        async def disconnect(sid: str, reason: str) -> None:
            gone.set()

        client = socketio.AsyncClient(reconnection=False)
        heard: list[Any] = []
        client.on("all", heard.append)
        client.on("question", lambda data: (data, b"\x04"))
        await client.connect(url, transports=transports, wait_timeout=PATIENCE)
        assert await client.call("echo", ({"a": [1, b"\xff"]}, b"bin")) == (
            {"a": [1, b"\xff"]},
            b"bin",
        )
        assert heard == [{"data": b"\x00\x01", "n": [1, b"\x02"]}]
        assert await client.call("ask") == ({"x": b"\x03"}, b"\x04")
        if transports is None:
            await eventually(lambda: client.transport() == "websocket")
            assert await client.call("echo", "again") == "again"
        await client.disconnect()
        await asyncio.wait_for(gone.wait(), PATIENCE)
        assert addresses == ["127.0.0.1"]
        await eventually(lambda: sio.manager.rooms == {})


async def test_a_plain_server_can_send_a_client_away() -> None:
    async with plain_server() as (sio, url):
        client = socketio.AsyncClient(reconnection=False)
        reasons: list[str] = []
        client.on("disconnect", reasons.append)
        await client.connect(url, transports=["websocket"], wait_timeout=PATIENCE)
        await sio.disconnect(client.get_sid())
        await eventually(lambda: reasons)
        assert not client.connected


async def test_a_client_in_python_that_is_told_so_takes_a_large_snapshot(serve: Serve) -> None:
    """As docs/programs.md has it."""
    app = await serve(rate_limit=0, max_note=60_000)
    for number in range(100):
        await command(app, "request", connid=str(number), time=60, note="x" * 60_000)
    client = socketio.AsyncClient(reconnection=False, websocket_extra_options={"max_msg_size": 0})
    snapshot = asyncio.get_running_loop().create_future()
    client.on("snapshot", snapshot.set_result)
    await client.connect(app.url, transports=["websocket"], wait_timeout=PATIENCE)
    assert len((await asyncio.wait_for(snapshot, PATIENCE))["running"]) == 100
    await client.disconnect()


@pytest.mark.slow
async def test_clients_that_do_not_read_are_bounded_and_let_go(
    serve: Serve, connect: Connect
) -> None:
    app = await serve(rate_limit=0, max_backlog=50_000, slow_timeout=0.5)
    async with AsyncExitStack() as stack:
        for _ in range(20):
            client = await stack.enter_async_context(wire(app, "{}"))
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert app.rooms.clients == 20
        await flood(app)
        await eventually(lambda: app.rooms.clients == 0, PATIENCE)
    reader = await connect(app.url)
    assert (await reader.command("status"))["ok"]


async def flood(app: App) -> None:
    """More events than the buffers of a loopback connection can hold."""
    for number in range(12_000):
        await command(app, "request", connid=str(number % 50), time=60, note="x" * 500,
                      if_running="replace")  # fmt: skip
        sizes = [socket.queue.size for socket in app.sockets.eio.sockets.values()]
        assert max(sizes, default=0) < 200_000
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


async def test_rubbish_whose_answers_are_not_read_is_bounded_too(serve: Serve) -> None:
    app = await serve(max_backlog=20_000, slow_timeout=0.5)
    async with aiohttp.ClientSession(app.url) as session:
        path = "/socket.io/?EIO=4&transport=polling"
        async with session.get(path) as response:
            sid = json.loads((await response.text())[1:])["sid"]
        async with session.post(f"{path}&sid={sid}", data="40"):
            pass
        queue = app.sockets.eio.sockets[sid].queue
        rubbish = "\x1e".join(["420[7]"] * 500)
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                while sid in app.sockets.eio.sockets:
                    async with session.post(f"{path}&sid={sid}", data=rubbish):
                        assert queue.size < 60_000
        assert sid not in app.sockets.eio.sockets


async def test_a_long_poll_ends_when_its_client_leaves(app: App, connect: Connect) -> None:
    client = await connect(app.url, "polling")
    assert isinstance(client, PollingClient)
    async with asyncio.timeout(5):
        await client.close()


async def test_the_stop_ends_a_websocket_so_that_its_client_comes_back(serve: Serve) -> None:
    app = await serve()
    url = f"{app.url}/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.receive_str()
        await socket.send_str('40{"rooms":[]}')
        await socket.receive_str()
        await app.stop()
        # No CLOSE of Engine.IO, and no DISCONNECT of Socket.IO, after which clients stay away.
        assert (await socket.receive()).data == 1012


async def test_a_client_that_notices_no_close_frame_is_cut(serve: Serve) -> None:
    app = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(REQUEST.replace(b"Host: x", b"Host: x\r\nUser-Agent: okhttp/4.12.0"))
    await reader.readuntil(b"\r\n\r\n")
    client = Wire(reader, writer)
    assert (await client.text()).startswith("0{")
    client.send(WSMsgType.TEXT, b'40{"rooms":[]}')
    assert (await client.text()).startswith("40{")
    await app.stop()
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()


async def test_the_stop_ends_a_poll_so_that_its_client_comes_back(serve: Serve) -> None:
    app = await serve()
    async with aiohttp.ClientSession(app.url) as session:
        path = "/socket.io/?EIO=4&transport=polling"
        async with session.get(path) as response:
            sid = json.loads((await response.text())[1:])["sid"]
        poll = asyncio.create_task(session.get(f"{path}&sid={sid}"))
        await eventually(lambda: app.sockets.driver._polling._polls)
        await app.stop()
        async with await poll as response:
            assert (response.status, await response.text()) == (400, "The session has ended.")


async def test_many_commands_in_one_post_are_all_answered(app: App, connect: Connect) -> None:
    client = await connect(app.url, "polling", rooms=[])
    starts = (client.command("request", {"connid": str(n), "time": 60}) for n in range(100))
    assert all(answer["ok"] for answer in await asyncio.gather(*starts))


@pytest.mark.parametrize("how", ["silence", "close", "nonsense", "twice"])
async def test_an_upgrade_that_is_given_up_leaves_the_client_with_polling(
    serve: Serve, how: str
) -> None:
    app = await serve(upgrade_timeout=0.3)
    path = "/socket.io/?EIO=4&transport="
    async with aiohttp.ClientSession(app.url) as session:
        async with session.get(f"{path}polling") as response:
            sid = json.loads((await response.text())[1:])["sid"]
        polling = f"{path}polling&sid={sid}"
        async with session.post(polling, data="40"):
            pass
        async with session.ws_connect(f"{path}websocket&sid={sid}") as socket:
            await socket.send_str("2probe")
            assert await socket.receive_str() == "3probe"
            if how == "nonsense":
                await socket.send_str("4nonsense")
            elif how == "twice":
                async with session.ws_connect(f"{path}websocket&sid={sid}") as second:
                    assert (await second.receive()).data == 1008
            if how != "close":
                await socket.receive()
        await eventually(lambda: not app.sockets.driver.connections)
        await command(app, "request", connid="after", time=60)
        heard = ""
        async with asyncio.timeout(PATIENCE):
            while "after" not in heard:
                async with session.get(polling) as response:
                    heard += await response.text()
        assert heard.count('"snapshot"') == heard.count('"started"') == 1


async def test_what_was_received_before_the_end_is_carried_out(app: App) -> None:
    for number in range(20):
        async with wire(app) as client:
            event = json.dumps(["request", {"connid": str(number), "time": 60}])
            client.send(WSMsgType.TEXT, f"42{event}".encode())
            await client.writer.drain()
    board = await app.store.board("main")
    await eventually(lambda: len(board.running) == 20)


async def test_a_namespace_in_the_address_is_refused_with_a_reason(
    app: App, connect: Connect
) -> None:
    with pytest.raises(socketio.exceptions.ConnectionError) as refused:
        await connect(f"{app.url}/admin", "node")
    told = refused.value.args[0]
    assert "namespace" in told["connect_error"]
    assert (told["data"]["code"], told["data"]["field"]) == ("invalid", "namespace")
    assert told["data"]["message"] == told["connect_error"]
