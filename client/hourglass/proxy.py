"""HTTP proxies, where the environment names one: `HTTPS_PROXY`, `http_proxy`, `NO_PROXY`."""

import base64
import ipaddress
import os
import re
from asyncio import StreamReader, StreamWriter
from urllib.parse import SplitResult, unquote, urlsplit

from hourglass.errors import Away


def proxy_for(url: SplitResult) -> SplitResult | None:
    """The proxy through which a server is reached; None for none. Raises `Away`."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # Takes as long to import as all the rest.
    from urllib import request

    host = url.hostname or ""
    proxies = request.getproxies_environment()
    named = proxies.get(url.scheme) or proxies.get("all")
    # Typeshed does not know of it.
    bypassed = request.proxy_bypass_environment(  # type: ignore[attr-defined]
        f"{host}:{url.port}" if url.port else host
    )
    if not named or bypassed or is_loopback(host):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise Away(f"a proxy has to begin with http://, not with {proxy.scheme}://")
    return proxy


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, where no proxy gets us."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


async def tunnel(
    reader: StreamReader, writer: StreamWriter, proxy: SplitResult, host: str, port: int
) -> None:
    """Have a proxy connect us to a server (RFC 9110, 9.3.6). Raises `Away`, and what streams do."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if proxy.username is not None:
        who = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(who).decode()}")
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    found = re.match(r"HTTP/1\.[01] (\d{3})\b", head)
    if found is None or not found[1].startswith("2"):
        status = f"HTTP {found[1]}" if found else "it is no HTTP proxy"
        raise Away(f"the proxy {proxy.hostname} does not connect us to {where}: {status}")
