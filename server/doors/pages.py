"""The pages and the files that they are made of."""

from pathlib import Path

from aiohttp import web

from server.doors.origin_guard import PAGE_POLICY

CLIENT = Path(__file__).parent.parent.parent / "client"
ASSETS = {
    path.relative_to(CLIENT).as_posix(): path
    for path in CLIENT.rglob("*")
    if path.suffix in {".css", ".html", ".js", ".svg"}
}
"""The files that the pages are made of, by their paths below `client/`."""


class File(web.FileResponse):
    """One of our own files, which is there: where it cannot be opened the system has no room."""

    def set_status(self, status: int, reason: str | None = None) -> None:
        if status == 404:
            status = 503
            self.headers["Retry-After"] = "1"
        super().set_status(status, reason)


async def asset(http_request: web.Request) -> web.StreamResponse:
    """A file of the dashboard; no path comes from the address."""
    found = ASSETS.get(http_request.match_info["path"])
    if found is None:
        raise web.HTTPNotFound
    return File(found)


async def contract_page(http_request: web.Request) -> web.StreamResponse:
    """What the two documents of the contract say, to read."""
    headers = {"Content-Security-Policy": PAGE_POLICY}
    return File(CLIENT / "docs" / "docs.html", headers=headers)


async def page(http_request: web.Request) -> web.StreamResponse:
    """The dashboard."""
    headers = {"Content-Security-Policy": PAGE_POLICY}
    return File(CLIENT / "index.html", headers=headers)
