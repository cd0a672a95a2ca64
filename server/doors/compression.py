"""Compresses HTTP responses with gzip, for clients that accept it (RFC 9110, section 12.5.3)."""

import asyncio
import gzip
import re
from functools import lru_cache
from pathlib import Path

from aiohttp import ETag, web

FAST, SMALL = 1, 9
"""Levels of gzip: for what is compressed for each request, and for what is compressed once."""
OFF_LOOP = 16_384
"""Bytes above which a thread compresses a body, as the event loop would stall."""
REJECTED = re.compile(r"q=0(\.0*)?")


def accepts_gzip(http_request: web.Request) -> bool:
    """Whether a client accepts gzip."""
    for item in http_request.headers.get("Accept-Encoding", "").lower().split(","):
        coding, _, weight = (part.strip() for part in item.partition(";"))
        if coding == "gzip":
            return not REJECTED.fullmatch(weight)
    return False


async def compressed(http_request: web.Request, response: web.Response, above: int) -> web.Response:
    """A response with its body compressed, if that is longer than `above` bytes; 0 is off."""
    body = response.body
    if not above or not isinstance(body, bytes) or len(body) <= above:
        return response
    response.headers.add("Vary", "Accept-Encoding")
    if accepts_gzip(http_request):
        if len(body) > OFF_LOOP:
            response.body = await asyncio.to_thread(gzip.compress, body, FAST, mtime=0)
        else:
            response.body = gzip.compress(body, FAST, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
    return response


async def compressed_file(http_request: web.Request, path: Path, kind: str) -> web.Response:
    """A file as a compressed response; it is compressed once for each of its versions.

    Raises `OSError` where the file cannot be read.
    """
    version = version_of(path)
    tag = f"{version}-gzip"
    response = web.Response(content_type=kind, charset="utf-8")
    if any(tag == known.value for known in http_request.if_none_match or ()):
        response.set_status(304)
    else:
        response.body = await asyncio.to_thread(packed, path, version)
        response.headers["Content-Encoding"] = "gzip"
    response.etag = ETag(tag)
    response.headers.add("Vary", "Accept-Encoding")
    return response


def version_of(path: Path) -> str:
    """What changes when a file is changed."""
    status = path.stat()
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


@lru_cache(256)
def packed(path: Path, version: str) -> bytes:
    """The content of a file in one of its versions, compressed."""
    return gzip.compress(path.read_bytes(), SMALL, mtime=0)
