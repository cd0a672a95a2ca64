"""The pages, and their assets."""

from pathlib import Path

from aiohttp import web

from server.doors.origin_guard import PAGE_POLICY

CLIENT = Path(__file__).parent.parent.parent / "client"
ASSETS = {
    path.relative_to(CLIENT).as_posix(): path
    for path in CLIENT.rglob("*")
    if path.suffix in {".css", ".html", ".js", ".svg"}
}
"""The assets of the pages, by their paths below `client/`."""


class File(web.FileResponse):
    """A file that exists: where it cannot be opened the process is out of descriptors."""

    def set_status(self, status: int, reason: str | None = None) -> None:
        if status == 404:
            status = 503
            self.headers["Retry-After"] = "1"
        super().set_status(status, reason)


async def asset(http_request: web.Request) -> web.StreamResponse:
    """An asset. Only known paths are served, so none can lead out of `client/`."""
    found = ASSETS.get(http_request.match_info["path"])
    if found is None:
        raise web.HTTPNotFound
    return File(found)


async def contract_page(http_request: web.Request) -> web.StreamResponse:
    """The page that shows both documents of the contract."""
    headers = {"Content-Security-Policy": PAGE_POLICY}
    return File(CLIENT / "docs" / "docs.html", headers=headers)


async def page(http_request: web.Request) -> web.StreamResponse:
    """The dashboard."""
    headers = {"Content-Security-Policy": PAGE_POLICY}
    return File(CLIENT / "index.html", headers=headers)
