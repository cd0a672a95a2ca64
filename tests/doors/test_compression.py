"""Large HTTP responses are compressed for clients that accept gzip."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.conftest import Serve
from tests.support.servers import ROOT, command

GZIP = {"Accept-Encoding": "deflate, gzip;q=0.5"}
PLAIN = [{"Accept-Encoding": "identity"}, {"Accept-Encoding": "gzip;q=0, br"}]
JOBS = 50


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that leaves bodies as they come."""
    without = {"Accept-Encoding"}
    async with aiohttp.ClientSession(
        url, auto_decompress=False, skip_auto_headers=without
    ) as session:
        yield session


def content_of(file: str) -> bytes:
    return (ROOT / "client" / file).read_bytes()


async def test_a_large_answer_is_compressed_where_that_is_accepted(serve: Serve) -> None:
    app = await serve(rate_limit=0)
    for number in range(JOBS):
        await command(app, "request", connid=f"job-{number}", time=60)
    async with raw(app.url) as session:
        async with session.get("/api/jobs", headers=GZIP) as response:
            body = await response.read()
            assert response.headers["Content-Encoding"] == "gzip"
            assert int(response.headers["Content-Length"]) == len(body)
            assert "Accept-Encoding" in response.headers.getall("Vary")
        jobs = json.loads(gzip.decompress(body))["jobs"]
        assert len(jobs) == JOBS
        for headers in [*PLAIN, {}]:
            async with session.get("/api/jobs", headers=headers) as response:
                whole = await response.read()
                assert "Content-Encoding" not in response.headers
                assert "Accept-Encoding" in response.headers.getall("Vary")
            assert [job["run"] for job in json.loads(whole)["jobs"]] == [job["run"] for job in jobs]
        assert len(body) < len(whole) / 3
        async with session.get("/api/jobs/job-1", headers=GZIP) as response:
            assert (await response.json(content_type=None))["ok"]
            assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json"])
async def test_the_contract_is_compressed(serve: Serve, path: str) -> None:
    app = await serve()
    async with raw(app.url) as session:
        async with session.get(path, headers=GZIP) as response:
            body = gzip.decompress(await response.read())
        async with session.get(path) as response:
            assert await response.read() == body


@pytest.mark.parametrize(
    ("path", "file"), [("/", "index.html"), ("/client/app/app.js", "app/app.js")]
)
async def test_an_asset_is_compressed_and_checked_by_its_tag(
    serve: Serve, path: str, file: str
) -> None:
    app = await serve(compress_above=100)
    content = content_of(file)
    async with raw(app.url) as session:
        async with session.get(path, headers=GZIP) as response:
            assert gzip.decompress(await response.read()) == content
            tag = response.headers["ETag"]
            kind = response.content_type
        async with session.get(path) as response:
            assert await response.read() == content
            assert (response.content_type, response.headers["ETag"] == tag) == (kind, False)
        async with session.get(path, headers={**GZIP, "If-None-Match": tag}) as response:
            assert (response.status, await response.read()) == (304, b"")
        async with session.get(path, headers={**GZIP, "Range": "bytes=1-9"}) as response:
            assert (response.status, await response.read()) == (206, content[1:10])


async def test_compression_may_be_off(serve: Serve) -> None:
    app = await serve(compress_above=0)
    async with raw(app.url) as session:
        for path in ("/openapi.json", "/client/app/app.js"):
            async with session.get(path, headers=GZIP) as response:
                assert "Content-Encoding" not in response.headers
                assert await response.read()
