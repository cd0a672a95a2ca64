"""The command line, as files that a machine can use at once.

`/hourglass.pyz` is one file that Python runs, `/hourglass.py` the same under a name that needs no
explanation; `/hourglass-VERSION-py3-none-any.whl` is a wheel for pip, pipx and uv, and
`/downloads.json` names them with their sizes and hashes. They are made of `client/hourglass`, the
same way each time: who serves the same sources hands out the same bytes.
"""

import asyncio
import hashlib
import logging
import zipfile
from functools import cache
from io import BytesIO

from aiohttp import web
from flit_core.wheel import WheelBuilder
from msgspec import Struct

from server.doors.pages import CLIENT

logging.getLogger("flit_core").setLevel(logging.WARNING)  # What goes into a wheel is no news.

TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""Of every file in an archive: the first that a zip can tell."""


class Download(Struct, frozen=True):
    """A file to hand out."""

    name: str
    kind: str
    """Its media type."""
    body: bytes

    @property
    def sha256(self) -> str:
        """Its hash, in hexadecimal."""
        return hashlib.sha256(self.body).hexdigest()


def zipapp() -> Download:
    """A zip that Python runs: PEP 441."""
    body = BytesIO(b"#!/usr/bin/env python3\n")
    body.seek(0, 2)
    with zipfile.ZipFile(body, "a", zipfile.ZIP_DEFLATED) as archive:
        start = (CLIENT / "hourglass" / "__main__.py").read_bytes()
        archive.writestr(entry("__main__.py"), start)
        for path in sorted((CLIENT / "hourglass").rglob("*.py")):
            archive.writestr(entry(str(path.relative_to(CLIENT))), path.read_bytes())
    return Download("hourglass.pyz", "application/vnd.python.zipapp", body.getvalue())


def entry(name: str) -> zipfile.ZipInfo:
    """A file of an archive, with nothing in it that differs from one machine to the next."""
    info = zipfile.ZipInfo(name, TIMESTAMP)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix.
    info.external_attr = 0o644 << 16
    return info


def wheel() -> Download:
    """A wheel, as `client/pyproject.toml` describes it."""
    body = BytesIO()
    builder = WheelBuilder.from_ini_path(CLIENT / "pyproject.toml", body)
    builder.source_time_stamp = TIMESTAMP
    builder.build(editable=False)
    return Download(builder.wheel_filename, "application/zip", body.getvalue())


@cache
def downloads() -> dict[str, Download]:
    """All there is to hand out, by the names in the address. Made once, in some 50 ms."""
    single, installed = zipapp(), wheel()
    return {single.name: single, "hourglass.py": single, installed.name: installed}


async def made() -> dict[str, Download]:
    """What `downloads` has, made by a thread where it is not there yet."""
    try:
        return await asyncio.to_thread(downloads)
    except OSError:  # Our own files are there: the system has no room to open them.
        raise web.HTTPServiceUnavailable(headers={"Retry-After": "1"}) from None


async def download(http_request: web.Request) -> web.StreamResponse:
    """One of the files."""
    found = (await made()).get(http_request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    return web.Response(body=found.body, content_type=found.kind)


async def listing(http_request: web.Request) -> web.StreamResponse:
    """What there is to hand out."""
    files = await made()
    told = [
        {"name": name, "size": len(file.body), "sha256": file.sha256}
        for name, file in files.items()
    ]
    return web.json_response({"files": told})


def add_to(app: web.Application) -> None:
    """Add the routes to an application."""
    app.router.add_get(r"/{name:hourglass\.pyz?|hourglass-[^/]+\.whl}", download)
    app.router.add_get("/downloads.json", listing)
