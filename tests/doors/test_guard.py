"""Where requests come from: other sites, other names, proxies; and what is said to browsers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict
from playwright.async_api import Browser, Page

from server.access.rate_limits import Limits, neighbours
from server.app import App
from server.budget import Budget
from server.config import Config, ConfigError
from server.counters import Counts
from server.doors.origin_guard import Guard
from server.transport.http_connections import Connections
from tests.conftest import Connect, Serve
from tests.support.browsers import open_page
from tests.support.clients import PATIENCE
from tests.support.servers import command
from tests.support.tokens import SECRET, token

DOORS = ("/api/jobs", "/ws", "/socket.io/?EIO=4&transport=polling", "/", "/client/app/app.js")
EVIL = "http://evil.example"


async def statuses(url: str, **headers: str) -> set[int]:
    """How each door answers a request with these headers."""
    found = set()
    async with aiohttp.ClientSession(url) as session:
        for path in DOORS:
            extra = {"Connection": "Upgrade", "Upgrade": "websocket"} if path == "/ws" else {}
            extra |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x" * 22 + "=="}
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            async with session.get(path, headers={**extra, **named}) as response:
                found.add(response.status)
                if response.status == 403:
                    assert (await response.json())["error"]["code"] == "forbidden"
    return found


@pytest.fixture
async def app(serve: Serve) -> App:
    return await serve(auth_secret=SECRET, allowed_origins="https://Board.example/,http://b:80")


@pytest.mark.parametrize(
    "origin",
    [EVIL, "https://evil.example:8000", "null", "file://", "http://", "", "http://[", "https://b"],
)
async def test_pages_of_other_sites_do_not_get_in(app: App, origin: str) -> None:
    assert await statuses(app.url, Origin=origin) == {403}


async def test_pages_of_this_server_get_in(app: App) -> None:
    host = app.url.removeprefix("http://")
    for scheme in ("http", "https"):  # TLS may end at a proxy.
        assert 403 not in await statuses(app.url, Origin=f"{scheme}://{host}")
    assert 403 not in await statuses(app.url, Origin="http://a.org", Host="a.org:80")
    assert await statuses(app.url, Origin="http://a.org:8080", Host="a.org") == {403}


async def test_pages_that_are_allowed_get_in_and_are_told_so(app: App) -> None:
    for origin in ("https://board.example", "http://b"):
        assert 403 not in await statuses(app.url, Origin=origin)
    async with aiohttp.ClientSession(app.url) as session:
        headers = {"Origin": "https://board.example", "Authorization": f"Bearer {token()}"}
        async with session.get("/api/jobs", headers=headers) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://board.example"
            assert "Origin" in response.headers["Vary"]
        asked = {**headers, "Access-Control-Request-Method": "DELETE"}
        async with session.options("/api/jobs/a", headers=asked) as response:
            assert response.status == 204
            assert "DELETE" in response.headers["Access-Control-Allow-Methods"]
            assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        asked["Origin"] = EVIL
        async with session.options("/api/jobs/a", headers=asked) as response:
            assert response.status == 403
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_every_origin_may_be_allowed_where_there_are_tokens(serve: Serve) -> None:
    app = await serve(auth_secret=SECRET, allowed_origins="*")
    assert 403 not in await statuses(app.url, Origin=EVIL)


async def test_a_page_that_hides_its_origin_does_not_get_in(app: App) -> None:
    for site in ("cross-site", "same-site"):
        for mode in ("no-cors", "cors", "websocket"):
            assert await statuses(app.url, Sec_Fetch_Site=site, Sec_Fetch_Mode=mode) == {403}
    for site in ("same-origin", "none"):
        assert 403 not in await statuses(app.url, Sec_Fetch_Site=site, Sec_Fetch_Mode="cors")


NAVIGATES = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-User": "?1"}
CHANGING = (
    ("POST", "/api/jobs?connid=evil&time=60"),
    ("DELETE", "/api/jobs/job"),
    ("POST", "/api/jobs/job/finish?run=r"),
    ("POST", "/socket.io/?EIO=4&transport=polling"),
    ("GET", "/socket.io/?EIO=4&transport=polling"),
    ("GET", "/ws"),
)
"""What changes something, if only who is connected."""


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything-new"])
async def test_a_link_from_another_site_leads_to_what_can_be_read_alone(
    serve: Serve, site: str
) -> None:
    app = await serve(allowed_origins="https://board.example")
    await command(app, "request", connid="job", time=60)
    async with aiohttp.ClientSession(app.url) as session:

        async def status(method: str, path: str, **headers: str) -> int:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            told = {"Sec-Fetch-Site": site, **NAVIGATES, **named}
            async with session.request(method, path, headers=told) as response:
                return response.status

        for method in ("GET", "HEAD"):
            for path in ("/", "/docs", "/openapi.json", "/hourglass.py"):
                assert await status(method, path) == 200, path
        assert await status("GET", "/api/jobs") == 200
        for dest in ("iframe", "frame", "embed", "object", "script", "image", "empty", ""):
            assert await status("GET", "/", Sec_Fetch_Dest=dest) == 403, dest
        for mode in ("no-cors", "cors", "websocket", "same-origin", "nested-navigate", ""):
            assert await status("GET", "/", Sec_Fetch_Mode=mode) == 403, mode
        for method, path in CHANGING:
            assert await status(method, path) == 403, path
            for other in ("PUT", "PATCH", "OPTIONS"):
                assert await status(other, path) == 403, (other, path)
        # A browser that says so beside an origin that may come in is that of its page.
        origin = "https://board.example"
        assert await status("POST", "/api/jobs?connid=b&time=60", Origin=origin) == 201
    assert sorted((await app.store.board("main")).running) == ["b", "job"]
    assert app.limits.clients.total == 0


@pytest.mark.parametrize(
    ("host", "let_in"),
    [
        ("127.0.0.1", True),
        ("localhost:8000", True),
        ("hourglass", True),
        ("192.168.1.5:8000", True),
        ("[::1]:8000", True),
        ("board.example", True),
        ("board.example:443", True),
        ("board.example:8000", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("[", False),
    ],
)
async def test_without_tokens_only_known_names_are_served(
    serve: Serve, host: str, let_in: bool
) -> None:
    app = await serve(allowed_origins="https://board.example")
    assert (403 not in await statuses(app.url, Host=host)) is let_in
    # A page whose own name was led here is of the same origin, and is refused all the same.
    assert (403 not in await statuses(app.url, Host=host, Origin=f"http://{host}")) is let_in
    assert 403 not in await statuses((await serve(auth_secret=SECRET)).url, Host=host)


async def test_a_refusal_is_logged_with_what_would_let_it_in(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    app = await serve()
    await statuses(app.url, Origin="https://board.example:8443")
    assert "ALLOWED_ORIGINS=https://board.example:8443 would let it in" in caplog.text
    await statuses(app.url, Host="board.example:8000")
    assert "ALLOWED_ORIGINS=http://board.example:8000 would let it in" in caplog.text
    for _ in range(20):
        await statuses(app.url, Origin=EVIL)
    assert len(caplog.records) < 30  # Not a line for each: nobody is to fill a disk.


@pytest.mark.parametrize(
    "origins", ["example.org", "https://a.org/path", "ftp://a.org", "https://u@a.org", "https://:1"]
)
def test_what_is_no_origin_cannot_be_allowed(origins: str) -> None:
    with pytest.raises(ConfigError, match="ALLOWED_ORIGINS"):
        Config(allowed_origins=origins)


def test_every_page_of_the_world_is_not_let_in_without_tokens() -> None:
    with pytest.raises(ConfigError, match="AUTH_SECRET"):
        Config(allowed_origins="*")


@pytest.fixture
async def evil() -> AsyncIterator[str]:
    """The address of another site."""
    application = web.Application()

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>evil</title>", content_type="text/html")

    application.router.add_get("/", page)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://localhost:{runner.addresses[0][1]}/"
    await runner.cleanup()


ATTACKS = {
    "fetch": """url => fetch(url + "/api/jobs").then(r => r.text())""",
    "post": """url => fetch(url + "/api/jobs", {method: "POST", mode: "no-cors",
        body: JSON.stringify({connid: "evil", time: 60})}).then(() => "")""",
    "delete": """url => fetch(url + "/api/jobs/job", {method: "DELETE"}).then(r => r.text())""",
    "form": """url => new Promise(done => {
        const frame = document.createElement("iframe");
        frame.name = "target";
        document.body.append(frame);
        const form = document.body.appendChild(document.createElement("form"));
        Object.assign(form, {method: "POST", enctype: "text/plain", target: "target",
            action: url + "/api/jobs?connid=evil&time=60"});
        frame.onload = () => done("");
        form.submit();
    })""",
    "script": """url => new Promise(done => {
        const script = document.createElement("script");
        script.src = url + "/socket.io/?EIO=4&transport=polling&j=0";
        window.___eio = [text => done(text)];
        script.onerror = () => done("");
        document.body.append(script);
    })""",
    "frame": """url => new Promise(done => {
        const frame = document.body.appendChild(document.createElement("iframe"));
        frame.onload = () => done(frame.contentDocument ? frame.contentDocument.title : "");
        frame.src = url;
    })""",
    "/ws": """url => new Promise(done => {
        const socket = new WebSocket(url.replace("http", "ws") + "/ws");
        socket.onmessage = event => done(event.data);
        socket.onerror = () => done("");
    })""",
    "socket.io": """url => new Promise(done => {
        const socket = new WebSocket(
            url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket");
        socket.onmessage = event => done(event.data);
        socket.onerror = () => done("");
    })""",
}
"""What a page of another site tries; each gives what it could read."""


async def test_a_page_of_another_site_can_neither_listen_nor_act(
    serve: Serve, browser: Browser, evil: str, connect: Connect
) -> None:
    app = await serve()
    client = await connect(app.url, "http")
    await client.command("request", {"connid": "job", "time": 60})
    page = await open_page(await browser.new_context(), evil)
    for attack in ATTACKS:
        assert await attempt(page, attack, app.url) == "", attack
    assert list((await app.store.board("main")).running) == ["job"]
    assert app.limits.clients.total == 0


async def test_a_page_that_is_allowed_can_do_these_things(
    serve: Serve, browser: Browser, evil: str
) -> None:
    """Shows that the page above is not refused for reasons of its own."""
    app = await serve(allowed_origins=evil)
    page = await open_page(await browser.new_context(), evil)
    assert '"jobs":[]' in await attempt(page, "fetch", app.url)
    await attempt(page, "post", app.url)
    assert list((await app.store.board("main")).running) == ["evil"]
    assert '"snapshot"' in await attempt(page, "/ws", app.url)
    assert '"sid"' in await attempt(page, "socket.io", app.url)


async def attempt(page: Page, attack: str, url: str) -> str:
    """What a page can read that tries something; nothing when the browser keeps it from that."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await page.evaluate(f"url => ({ATTACKS[attack]})(url).catch(() => '')", url)
    except TimeoutError:
        return "it hung"


async def test_headers_of_every_answer(app: App) -> None:
    async with aiohttp.ClientSession(app.url) as session:
        for path in (*DOORS, "/nothing", "/client", "/client/../server/app.py", "/api/nothing"):
            async with session.get(path) as response:
                headers, text = response.headers, await response.text()
                assert headers["Server"] == "Hourglass", path
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert headers["Referrer-Policy"] == "no-referrer"
                assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
                assert "unsafe" not in headers["Content-Security-Policy"]
                assert "Traceback" not in text and "/server" not in text
        async with session.get("/") as response:
            policy = response.headers["Content-Security-Policy"]
            assert "script-src 'self' https://cdn.socket.io/" in policy
            assert "default-src 'none'" in policy


async def test_what_is_no_http_is_answered_without_a_banner_or_a_traceback(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    for nonsense in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(nonsense)
        answer = (await asyncio.wait_for(reader.read(), PATIENCE)).decode()
        writer.close()
        assert answer.startswith("HTTP/1.0 400") or answer.startswith("HTTP/1.1 400")
        assert "aiohttp" not in answer and "Python" not in answer and "Traceback" not in answer
    assert "Traceback" not in caplog.text


async def test_a_bug_in_a_page_is_answered_without_its_cause(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("server.doors.http.credentials", broken)
    async with aiohttp.ClientSession(app.url) as session:
        for path in ("/ws", "/api/jobs"):
            async with session.get(path) as response:
                assert response.status == 500
                assert (await response.json())["error"]["code"] == "internal"
    assert "RuntimeError: secret" in caplog.text


def address(hops: int, *forwarded: str) -> str:
    """What a server with so many proxies takes for the address of a request of 10.0.0.9."""
    config = Config(trusted_proxies=hops, auth="open")
    limits = Limits(config, lambda: 0, Counts())
    guard = Guard(config, limits, Connections(config, limits, Budget(config, lambda: 0, Counts())))

    headers = CIMultiDict([("X-Forwarded-For", text) for text in forwarded])
    return guard.address(headers, "10.0.0.9")


@pytest.mark.parametrize(
    ("hops", "forwarded", "found"),
    [
        (0, ["1.1.1.1"], "10.0.0.9"),
        (1, ["1.1.1.1"], "1.1.1.1"),
        (1, ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        (1, ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
        (2, ["6.6.6.6, 1.1.1.1, 10.0.0.1"], "1.1.1.1"),
        (2, ["1.1.1.1"], "10.0.0.9"),
        (1, [], "10.0.0.9"),
        (1, ["1.1.1.1:5000"], "1.1.1.1"),
        (1, ["[2001:db8::1]:5000"], "2001:db8::1"),
        (1, ["2001:db8::1"], "2001:db8::1"),
        (1, ["unknown"], "10.0.0.9"),
        (1, ["["], "10.0.0.9"),
        (1, [""], "10.0.0.9"),
        (1, ["fe80::1%any text"], "fe80::1"),
        (1, ["::FFFF:1.1.1.1"], "1.1.1.1"),
    ],
)
def test_the_address_is_what_the_outermost_trusted_proxy_saw(
    hops: int, forwarded: list[str], found: str
) -> None:
    assert address(hops, *forwarded) == found


def test_an_ipv6_network_is_counted_as_one() -> None:
    assert neighbours("2001:db8:0:1::1") == neighbours("2001:db8:0:1:2:3:4:5")
    assert neighbours("2001:db8:0:1::1") != neighbours("2001:db8:0:2::1")
    assert neighbours("::ffff:1.2.3.4") == neighbours("1.2.3.4") == "1.2.3.4"
    assert neighbours("fe80::1%eth0") == neighbours("fe80::2")
    assert neighbours("") == ""
